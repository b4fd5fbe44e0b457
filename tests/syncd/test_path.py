"""The whole way of a setting: committed in PostgreSQL, published, followed, reported."""

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from syncd import config, keys
from syncd.etcd import Etcd
from syncd.published import HASH_CHARS
from tests.syncd import running
from tests.syncd.running import Database, domain, follow, publisher

Run = Callable[[Any], Any]


async def test_a_commit_reaches_both_nodes_and_is_reported(
    place: config.Etcd, database: str, store: Database, here: Path, run: Run
) -> None:
    run(publisher(here, place, database))
    nodes = [run(follow(here, place, name)) for name in ("mx1", "mx2")]
    revision = await store.commit(domain("a.test"), domain("b.test"))
    for node in nodes:
        await node.reaches(revision)
        assert node.value(keys.domain("a.test"))[HASH_CHARS:] == domain("a.test")[1]
    revision = await store.commit((keys.domain("a.test"), None))
    for node in nodes:
        status = await node.reaches(revision)
        assert node.value(keys.domain("a.test")) is None
        assert status.count == 1
    took = await _times(place, store)
    print("commit → both receipts, ms:", [round(each * 1000, 1) for each in sorted(took)])
    assert statistics.median(took) < 0.1


async def _times(place: config.Etcd, store: Database) -> list[float]:
    """Seconds from commit to the last node's receipt, for some changes."""
    took = []
    async with Etcd(place) as etcd:
        seen: dict[str, int] = {}
        news = asyncio.Event()

        async def hear() -> None:
            now = await etcd.get("/none")
            async for changes in etcd.watch(keys.RECEIPTS, keys.RECEIPTS[:-1] + "0", since=now.revision):
                for item in changes.items:
                    if item.value:
                        seen[item.key] = running.receipt(item.value).revision
                news.set()

        task = asyncio.create_task(hear())
        for number in range(30):
            revision = await store.commit(domain("a.test", {"retention": {"days": 7}} if number % 2 else {}))
            began = time.monotonic()
            while len(seen) < 2 or min(seen.values()) < revision:
                news.clear()
                await asyncio.wait_for(news.wait(), 5)
            took.append(time.monotonic() - began)
        task.cancel()
    return took
