"""What a receipt says is obeyed at the first look, by every worker of every node, whatever becomes of memcached.

The workers are processes with the workers' own reading path; sessions over SMTP are in tests/e2e/test_obedience.py.
OBEDIENCE=10000 makes that many changes.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control.receipts import Receipts
from control.receipts_feed import follow as feed
from mx.filters.sections import Retention, Scoring
from syncd import config, keys
from syncd.layers import SystemLayer, canonical
from tests.servers import Memcached
from tests.syncd.faults.load import NODES, Committed
from tests.syncd.running import ROOT, Database, Follow, domain, follow, publisher

pytestmark = pytest.mark.timeout(7_200)
COUNT = int(os.environ.get("OBEDIENCE", "300"))
DOMAINS = [f"d{number}.test" for number in range(50)]
WORKERS = 2
Make = Callable[..., Memcached]


class Worker:
    """One worker's reading path, in a process of its own."""

    def __init__(self, node: Follow) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.syncd.obeyer", str(node.directory / "node.toml")],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def look(self, name: str) -> dict[str, Any]:
        """What it would judge by."""
        assert self._process.stdin
        assert self._process.stdout
        print(name, file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        """End it."""
        self._process.communicate()


class Faults:
    """What befalls the nodes' memcacheds, now one, now the other."""

    def __init__(self, servers: list[Memcached], chance: random.Random) -> None:
        self._servers, self._chance = servers, chance
        self._bad: Memcached | None = None

    def next(self) -> None:
        """Heal what was broken, then freeze or kill one, or leave all well."""
        if self._bad:
            if self._is_frozen:
                self._bad.send_signal(signal.SIGCONT)
            else:
                self._bad.start()
        self._bad = self._chance.choice([*self._servers, None])
        self._is_frozen = self._chance.random() < 0.5
        if self._bad and self._is_frozen:
            self._bad.send_signal(signal.SIGSTOP)
        elif self._bad:
            self._bad.kill()


@pytest.fixture
def memcacheds(make_memcached: Make) -> list[Memcached]:
    """One a node; the second has so little memory that it evicts."""
    return [make_memcached(), make_memcached(megabytes=1)]


async def test_what_is_applied_is_obeyed_at_the_first_look(
    place: config.Etcd,
    database: str,
    store: Database,
    here: Path,
    run: Callable[[Any], Any],
    memcacheds: list[Memcached],
) -> None:
    run(publisher(here, place, database))
    nodes = [run(follow(here, place, name, server.socket)) for name, server in zip(NODES, memcacheds, strict=True)]
    last = await store.commit(*(domain(name) for name in DOMAINS))
    for node in nodes:
        await node.reaches(last)
        node.reader.close()
    workers = [Worker(node) for node in nodes for _ in range(WORKERS)]
    receipts, faults = Receipts(), Faults(memcacheds, random.Random(5))
    state: dict[str, Any] = {}
    async with asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(feed(place, receipts))
        for number in range(COUNT):
            if number % 25 == 24:
                faults.next()
            name, wanted = await _change(store, receipts, number, state)
            found = [worker.look(name) for worker in workers]
            assert found == [wanted] * len(workers), f"change {number} of {name}"
        feeding.cancel()
    for worker in workers:
        worker.end()


async def _change(
    store: Database, receipts: Receipts, number: int, state: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Change a domain, or the system's layer, and wait for the receipts; the domain, and what has to be in force."""
    name, days = DOMAINS[number % len(DOMAINS)], 1 + number % 300
    if number % 10 == 9:
        tag = f"[{number}]"
        key, value = keys.SYSTEM, canonical(SystemLayer({"scoring": {"tag": tag}}))
        state["tag"] = tag
    else:
        key, value = domain(name, {"retention": {"days": days}})
        state[name] = days
    revision = await store.commit((key, value))
    row = await store.pool.fetchrow(
        "select (extract(epoch from committed_at) * 1000000)::bigint as stamp from outbox where revision = $1", revision
    )
    assert await receipts.wait_applied(Committed(1, revision, key, row["stamp"]), 30)
    return name, {"days": state.get(name, Retention().days), "tag": state.get("tag", Scoring().tag)}
