"""A follower, as the process it is, under a real etcd that is killed, frozen, silenced, compacted, emptied, meddled."""

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from syncd import config, keys, put
from syncd.etcd import Etcd
from syncd.published import Meta, sealed
from tests.servers import Etcd as Server
from tests.syncd import running
from tests.syncd.proxy import proxy
from tests.syncd.running import Database, domain, follow, publisher, until

Run = Callable[[Any], Any]


async def published(etcd: Etcd, revision: int, *changes: tuple[str, bytes | None], generation: int = 1) -> None:
    """What a publisher writes for one revision."""
    head = await put.head(etcd)
    writes = {key: None if value is None else sealed(value) for key, value in changes}
    before = (await etcd.read(writes)).values()
    await put.put(etcd, head, writes, before, (generation, revision))


async def test_nothing_is_missing_after_etcd_was_killed_under_changes(
    make_etcd: Callable[..., Server], database: str, store: Database, here: Path, run: Run
) -> None:
    server = make_etcd()
    place = config.Etcd(endpoints=(server.endpoint,))
    run(publisher(here, place, database))
    node = run(follow(here, place))
    await node.reaches(await store.commit(domain("start.test")))

    async def change() -> None:
        for number in range(100):
            await store.commit(domain(f"d{number % 40}.test", {"retention": {"days": 1 + number}}))
            await asyncio.sleep(0.03)
            if number % 10 == 9:
                await store.commit((keys.domain(f"d{number % 40}.test"), None))

    changing = asyncio.create_task(change())
    for _ in range(3):
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.restart)
    await changing
    revision = await store.commit(domain("end.test"))
    status = await node.reaches(revision)
    wanted = {row["key"]: sealed(row["value"]) for row in await _last_values(store) if row["value"] is not None}
    assert status.count == len(wanted)
    assert {key: node.value(key) for key in wanted} == wanted


async def _last_values(store: Database) -> Any:
    return await store.pool.fetch("select distinct on (key) key, value from outbox order by key, revision desc")


async def test_what_was_compacted_while_a_node_was_away_is_loaded_with_its_deletes(
    place: config.Etcd, here: Path, run: Run
) -> None:
    node = run(follow(here, place))
    async with Etcd(place) as etcd:
        await published(etcd, 1, domain("gone.test"), domain("same.test"), domain("other.test"))
        await node.reaches(1)
        node.kill()
        await published(etcd, 2, (keys.domain("gone.test"), None), domain("other.test", {"retention": {"days": 3}}))
        await published(etcd, 3, domain("new.test"))
        await etcd.compact((await etcd.get(keys.META)).revision)
        run(node)
        status = await node.reaches(3)
        assert status.count == 3
        assert node.value(keys.domain("gone.test")) is None
        assert node.value(keys.domain("new.test")) == sealed(domain("new.test")[1])
        assert [event["cause"] for event in node.events("loading")] == ["first", "compacted"]


async def test_a_silent_connection_is_noticed_within_six_seconds(place: config.Etcd, here: Path, run: Run) -> None:
    async with proxy(place.endpoints[0]) as (silent, through), Etcd(place) as etcd:
        node = run(follow(here, through))
        await published(etcd, 1, domain("a.test"))
        await node.reaches(1)
        assert silent.silence() == 1
        await published(etcd, 2, domain("b.test"))
        await node.reaches(2, within_s=7)
        assert node.metric("syncd_follow_revision") == 2


async def test_a_frozen_etcd_makes_a_node_stale_and_a_thawed_one_live(
    make_etcd: Callable[..., Server], here: Path, run: Run
) -> None:
    server = make_etcd()
    place = config.Etcd(endpoints=(server.endpoint,))
    node = run(follow(here, place))
    async with Etcd(place) as etcd:
        await published(etcd, 1, domain("a.test"))
    await node.reaches(1)
    server.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    await until(lambda: node.status().state == "stale", 7)
    assert time.monotonic() - began < 6
    assert not node.status().can_deny
    assert node.value(keys.domain("a.test"))
    server.send_signal(signal.SIGCONT)
    await node.reaches(1)


async def test_a_node_that_boots_without_etcd_serves_what_it_last_knew(
    make_etcd: Callable[..., Server], here: Path, run: Run
) -> None:
    server = make_etcd()
    place = config.Etcd(endpoints=(server.endpoint,))
    node = run(follow(here, place))
    async with Etcd(place) as etcd:
        await published(etcd, 1, domain("a.test"))
    await node.reaches(1)
    node.kill()
    server.kill()
    run(node)
    await until(lambda: len(node.events("following")) == 2)
    assert (node.status().state, node.status().complete) == ("stale", True)
    assert node.value(keys.domain("a.test")) == sealed(domain("a.test")[1])
    server.start()
    await node.reaches(1)


async def test_a_value_that_cannot_be_read_leaves_the_old_one_in_force_and_is_reported(
    place: config.Etcd, here: Path, run: Run
) -> None:
    node = run(follow(here, place))
    async with Etcd(place) as etcd:
        await published(etcd, 1, domain("a.test"), domain("b.test"))
        await node.reaches(1)
        unreadable = domain("a.test", {"from_a_newer_version": {"x": 1}})
        await published(etcd, 2, unreadable, domain("b.test", {"retention": {"days": 9}}))
        status = await node.reaches(2)
        assert status.unreadable == (keys.domain("a.test"),)
        assert node.value(keys.domain("a.test")) == sealed(domain("a.test")[1])
        assert node.value(keys.domain("b.test")) != sealed(domain("b.test")[1])
        told = await _receipt(etcd, 2)
        assert (told.unreadable, told.state) == ((keys.domain("a.test"),), "live")
        await published(etcd, 3, domain("a.test", {"retention": {"days": 5}}))
        assert (await node.reaches(3)).unreadable == ()


async def _receipt(etcd: Etcd, revision: int) -> Any:
    async with asyncio.timeout(5):
        while True:
            found = (await etcd.get(keys.receipt("mx1"))).values().get(keys.receipt("mx1"))
            if found and (told := running.receipt(found)).revision >= revision:
                return told
            await asyncio.sleep(0.01)


async def test_an_emptied_etcd_takes_nothing_from_a_node(place: config.Etcd, here: Path, run: Run) -> None:
    node = run(follow(here, place))
    async with Etcd(place) as etcd:
        await published(etcd, 5, domain("a.test"), domain("b.test"))
        await node.reaches(5)
        everything = [key async for page in etcd.pages(keys.FIRST, keys.END) for key in page.values()]
        await etcd.write([], [(key, None) for key in everything])
        await until(lambda: node.status().state == "stale")
        assert node.value(keys.domain("b.test"))
        await published(etcd, 3, domain("a.test"))
        await published(etcd, 4, domain("c.test"))
        assert (node.status().state, node.status().revision) == ("stale", 5)
        assert node.value(keys.domain("b.test"))
        await published(etcd, 6, domain("d.test"))
        await node.reaches(6)
        assert node.value(keys.domain("b.test")) is None
        assert node.value(keys.domain("d.test"))
        assert await _revisions_never_fell(node)


async def _revisions_never_fell(node: running.Follow) -> bool:
    revisions = [event["revision"] for event in node.events("live")]
    return revisions == sorted(revisions)


async def test_a_lower_revision_of_a_higher_generation_is_followed(place: config.Etcd, here: Path, run: Run) -> None:
    node = run(follow(here, place))
    async with Etcd(place) as etcd:
        await published(etcd, 9, domain("a.test"))
        await node.reaches(9)
        await published(etcd, 2, domain("b.test"), generation=2)
        await until(lambda: node.status().point == (2, 2) and node.status().agrees)


async def test_what_no_publisher_wrote_is_not_followed(place: config.Etcd, here: Path, run: Run) -> None:
    node = run(follow(here, place))
    async with Etcd(place) as etcd:
        await published(etcd, 1, domain("a.test"))
        await node.reaches(1)
        await etcd.delete(keys.domain("a.test"))
        await until(lambda: node.metric("syncd_follow_ignored_total") == 1)
        assert node.value(keys.domain("a.test"))
        assert node.status().agrees


async def test_content_that_is_not_what_meta_says_is_not_loaded(place: config.Etcd, here: Path, run: Run) -> None:
    node = run(follow(here, place))
    async with Etcd(place) as etcd:
        wrong = Meta(1, 1, digest="0" * 32, count=1)
        key, value = domain("a.test")
        await etcd.write([], [(key, sealed(value)), (keys.META, msgspec.json.encode(wrong))])
        await until(lambda: node.events("load_differs"))
        assert node.status().complete is False
        await etcd.delete(keys.META)
        await etcd.delete(key)
        await published(etcd, 2, domain("a.test"))
        await node.reaches(2, within_s=20)


async def test_a_torn_store_is_set_aside_and_loaded_again(place: config.Etcd, here: Path, run: Run) -> None:
    node = run(follow(here, place))
    async with Etcd(place) as etcd:
        await published(etcd, 1, *(domain(f"d{number}.test") for number in range(50)))
        await node.reaches(1)
        node.kill()
        file = node.directory / "lastgood" / "data.mdb"
        with file.open("r+b") as torn:
            torn.truncate(file.stat().st_size // 2)
        node.start()
        await until(lambda: node.process.poll() is not None or node.events("live")[1:], why="reloaded or died")
        if node.process.poll() is not None:  # the checker died of what it read; the next start knows
            node.kill()
            node.start()
        status = await node.reaches(1)
        assert status.count == 50
        assert (node.directory / "lastgood" / "data.mdb.torn").exists()


async def test_it_ends_cleanly_when_told(place: config.Etcd, here: Path, run: Run) -> None:
    node = run(follow(here, place))
    await until(lambda: node.events("following"))
    assert node.kill(signal.SIGTERM) == 0
    assert b"Traceback" not in node.log.read_bytes()
