"""etcd killed, frozen, silent, cut, full, set back, without its leader, under changes."""

import asyncio
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncd import config, keys
from syncd.etcd import Etcd
from tests.servers import Etcd as Server
from tests.syncd.faults import LONG, times
from tests.syncd.faults.cluster import Cluster
from tests.syncd.faults.load import load
from tests.syncd.proxy import proxy
from tests.syncd.running import Database, domain, until

pytestmark = pytest.mark.timeout(900)
Run = Callable[[Any], Any]
Make = Callable[..., Server]
QUOTA_BYTES = 16 * 1024 * 1024


@pytest.fixture
def server(make_etcd: Make) -> Server:
    """An etcd of the test's own."""
    return make_etcd()


def at(server: Server) -> config.Etcd:
    """Where it is."""
    return config.Etcd(endpoints=(server.endpoint,))


async def test_killed_again_and_again(server: Server, database: str, store: Database, here: Path, run: Run) -> None:
    async with load(store, database, here, run, at(server)) as made:
        for _ in range(times(3, 20)):
            await asyncio.to_thread(server.restart)
            last = await made.change(*domain("between.test"))
            await made.nodes[0].reaches(last.revision)


async def test_frozen_is_noticed_within_six_seconds(
    server: Server, database: str, store: Database, here: Path, run: Run
) -> None:
    async with load(store, database, here, run, at(server)) as made:
        server.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        await until(lambda: all(node.status().state == "stale" for node in made.nodes), 8)
        assert time.monotonic() - began < 6.5, "5 s of silence, and a look"
        await asyncio.sleep(times(1, 14))
        server.send_signal(signal.SIGCONT)


async def test_a_connection_that_falls_silent_is_noticed_within_six_seconds(
    server: Server, database: str, store: Database, here: Path, run: Run
) -> None:
    async with proxy(server.endpoint) as (way, near), load(store, database, here, run, at(server), near) as made:
        for _ in range(times(1, 5)):
            assert way.silence()
            last = await made.change(*domain("silent.test"))
            await made.nodes[0].reaches(last.revision, within_s=8)


async def test_cut_at_any_byte(server: Server, database: str, store: Database, here: Path, run: Run) -> None:
    chance = random.Random(7)
    async with proxy(server.endpoint) as (way, near), load(store, database, here, run, at(server), near):
        cuts = times(40, 500)
        way.limit = lambda: chance.choice((30, 300, 3_000)) + chance.randrange(3_000)
        way.cut()
        await until(lambda: way.cuts >= cuts, 600, "cuts")
        way.limit = None


async def test_a_node_is_away_while_much_changes_and_is_compacted(
    server: Server, database: str, store: Database, here: Path, run: Run
) -> None:
    async with load(store, database, here, run, at(server)) as made, Etcd(at(server)) as etcd:
        made.nodes[1].kill()
        count = times(200, 2_000)
        names = [domain(f"away{number % 90}.test", {"retention": {"days": 1 + number}}) for number in range(count)]
        for number, (key, value) in enumerate(names):
            last = await store.commit((key, None if number % 5 == 0 else value))
        await made.nodes[0].reaches(last)
        await etcd.compact((await etcd.get(keys.META)).revision)
        made.nodes[1].start()
        await until(lambda: len(made.nodes[1].events("loading")) == 2, 30)
        assert made.nodes[1].events("loading")[1]["cause"] == "compacted"


async def test_set_back_to_an_older_state(server: Server, database: str, store: Database, here: Path, run: Run) -> None:
    async with load(store, database, here, run, at(server)) as made:
        for _ in range(times(1, 5)):
            server.stop()
            copy = here / "snapshot"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(server.directory / "data", copy)
            server.start()
            last = await made.change(*domain("after-the-snapshot.test"))
            for node in made.nodes:
                await node.reaches(last.revision, within_s=30)
            server.stop()
            shutil.rmtree(server.directory / "data")
            shutil.copytree(copy, server.directory / "data")
            server.start()


async def test_its_quota_used_up(make_etcd: Make, database: str, store: Database, here: Path, run: Run) -> None:
    server = make_etcd(arguments=(f"--quota-backend-bytes={QUOTA_BYTES}",))
    async with load(store, database, here, run, at(server)) as made:
        await asyncio.to_thread(_fill_up, server)
        behind = await made.change(*domain("too-much.test"))
        await until(lambda: made.publisher.events("publishing_interrupted"), 30)
        assert made.nodes[0].status().state in ("live", "stale")
        assert made.nodes[0].status().revision < behind.revision
        await asyncio.to_thread(_make_room, server)


def _fill_up(server: Server) -> None:
    """Write until etcd raises its alarm and refuses more."""
    for number in range(64):
        if not server.ask("kv/put", {"key": server.text(f"/junk/{number}"), "value": server.text("x" * 1_000_000)}):
            return
    raise AssertionError("the quota was never met")


def _make_room(server: Server) -> None:
    """What an operator does: delete, compact, defragment, disarm."""
    gone = server.ask("kv/deleterange", {"key": server.text("/junk/"), "range_end": server.text("/junk0")})
    assert gone
    server.ask("kv/compaction", {"revision": gone["header"]["revision"], "physical": True})
    assert server.ask("maintenance/defragment", {}) is not None
    alarms = (server.ask("maintenance/alarm", {"action": "GET"}) or {}).get("alarms", [])
    for alarm in alarms:
        assert server.ask("maintenance/alarm", {"action": "DEACTIVATE", **alarm}) is not None


@pytest.mark.skipif(not LONG, reason="three members on one machine: FAULTS=long")
async def test_a_cluster_of_three_loses_its_leader(database: str, store: Database, here: Path, run: Run) -> None:
    with Cluster(here / "cluster") as cluster:
        async with load(store, database, here, run, cluster.place) as made:
            for _ in range(5):
                leader = await cluster.leader()
                leader.kill()
                last = await made.change(*domain("elected.test"))
                for node in made.nodes:
                    await node.reaches(last.revision, within_s=40)
                leader.start()
