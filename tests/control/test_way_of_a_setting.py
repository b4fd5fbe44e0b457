"""A setting's whole way, every part real: API → PostgreSQL → publisher → etcd → two followers → receipts → API."""

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from control import api, bootstrap
from control.app import Services, bare_app
from control.receipts import Receipts
from control.receipts_feed import follow
from mx.follow import readable
from syncd import config, keys
from syncd.etcd import Etcd as Client
from syncd.follow import Follower
from syncd.lastgood import Writer
from syncd.memcache import Memcache
from syncd.publish import Publisher
from syncd.warm import Warmer
from tests.control.api.conftest import Door, add_node, settings_for
from tests.services import Etcd

NODES = ("mx1", "mx2")
PATH = "/domains/example.test/settings"


@pytest.fixture
async def door(database: str, etcd: Etcd, tmp_path: Path) -> AsyncIterator[Door]:
    """The operator's door of a control plane with two living nodes and one domain."""
    place, receipts, seeds = config.Etcd((etcd.endpoint,)), Receipts(), bootstrap.fresh()
    async with asyncpg.create_pool(database, min_size=1, max_size=8) as pool:
        async with pool.acquire() as connection, connection.transaction():
            await bootstrap.ensure(connection, seeds)
        for name in NODES:
            await add_node(pool, name)
        settings = msgspec.structs.replace(settings_for(database, tmp_path), etcd=place)
        app = bare_app(Services(settings, pool, receipts))
        api.register(app)
        made = Door(app, seeds["operator_token"])
        with ExitStack() as stores:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(each) for each in _parts(database, place, receipts, tmp_path, stores)]
                await made.call(
                    "POST", "/domains", {"name": "example.test", "next_hops": [{"host": "127.0.0.1", "port": 25}]}
                )
                yield made
                for task in running:
                    task.cancel()


def _parts(database: str, place: config.Etcd, receipts: Receipts, directory: Path, stores: ExitStack) -> list[Any]:
    followers = [
        Follower(
            name,
            place,
            stores.enter_context(Writer(directory / name)),
            readable,
            Warmer(Memcache(str(directory / "no-memcached"))),
        )
        for name in NODES
    ]
    publisher = Publisher(database, place, "test")
    return [publisher.run(), follow(place, receipts), *(each.run() for each in followers)]


async def test_a_change_is_applied_on_every_node_with_its_hash(door: Door) -> None:
    times = []
    for number in range(20):
        reply = await door.call("PATCH", PATH + "?wait=applied&timeout=20", {"scoring": {"refuse_at": number}})
        body = reply.json
        assert (reply.status, body["applied"], set(body["nodes"])) == (200, True, set(NODES)), body
        assert {node["hash"] for node in body["nodes"].values()} == {body["hash"]}
        times += [node["ms"] for node in body["nodes"].values()]
    print(f"median receipt {statistics.median(times):.1f} ms, slowest {max(times):.1f} ms")
    fleet = (await door.call("GET", "/nodes")).json
    assert [(each["reports"], each["behind"], each["agrees"]) for each in fleet["items"]] == [("live", 0, True)] * 2


async def test_lists_recipients_and_a_deleted_domain_arrive_too(door: Door, etcd: Etcd) -> None:
    wait = "?wait=applied&timeout=20"
    entry = await door.call("POST", "/domains/example.test/lists" + wait, {"kind": "deny", "match": "spam.test"})
    assert entry.json["applied"], entry.content
    names = [f"user{number}" for number in range(20_000)]
    listed = await door.call("PUT", "/domains/example.test/recipients" + wait, {"recipients": names})
    assert listed.status == 200, listed.content
    assert (await door.call("DELETE", "/domains/example.test" + wait)).status == 200
    async with Client(config.Etcd((etcd.endpoint,))) as client:
        assert (await client.get(keys.domain("example.test"))).items == ()


async def test_changes_at_once_are_all_applied(door: Door) -> None:
    async def one(number: int) -> int:
        path = PATH if number % 2 else "/system/settings"
        reply = await door.call("PATCH", path + "?wait=applied&timeout=20", {"scoring": {"refuse_at": 10 + number}})
        assert reply.status == 200, reply.content
        revision: int = reply.json["revision"]
        return revision

    revisions = await asyncio.gather(*(one(number) for number in range(20)))
    assert len(set(revisions)) == 20


async def test_a_restored_database_is_published_only_when_an_operator_says_so(door: Door, database: str) -> None:
    """The backup is simulated by putting the tables back; nothing is called applied in between."""
    wait = PATH + "?wait=applied&timeout=20"
    assert (await door.call("PATCH", wait, {"scoring": {"refuse_at": 1}})).status == 200
    tables = ("revision_counter", "outbox", "layers", "history")
    connection = await asyncpg.connect(database)
    for table in tables:
        await connection.execute(f"create table backup_{table} as table {table}")
    for number in range(2, 5):
        assert (await door.call("PATCH", wait, {"scoring": {"refuse_at": number}})).status == 200
    async with connection.transaction():
        for table in tables:
            await connection.execute(f"delete from {table}")
            await connection.execute(f"insert into {table} select * from backup_{table}")
    await connection.close()
    for number in range(5):
        reply = await door.call("PATCH", PATH + "?wait=applied&timeout=0.3", {"scoring": {"tag": f"[{number}]"}})
        assert (reply.status, reply.json["applied"]) == (202, False), "its revision is lower, or was another change's"
    restored = await door.call("POST", "/restore?wait=applied&timeout=20")
    assert (restored.status, restored.json["applied"], restored.json["generation"]) == (200, True, 2), restored.content
    reply = await door.call("PATCH", wait, {"scoring": {"doubt_at": 0}})
    assert (reply.status, {node["hash"] for node in reply.json["nodes"].values()}) == (200, {reply.json["hash"]})
    shown = (await door.call("GET", PATH)).json
    assert (shown["scoring"]["refuse_at"], shown["scoring"]["tag"]) == (1, "[4]")
