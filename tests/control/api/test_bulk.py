"""Bulk changes: checked whole, written in small steps that yield, resumed after a crash, each domain's own failure."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from control import bulk
from control.receipts import Receipts
from control.store import bulk_write, layers, settings
from syncd import keys
from syncd.layers import DomainLayer, digest
from tests.control.api.conftest import OPERATOR, Door, Report, add_node, until

COUNT = 30
NAMES = [f"d{number:03}.test" for number in range(COUNT)]
PATCH = {"scoring": {"refuse_at": 8}}


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 10)


@pytest.fixture
async def many(operator: Door, seeds: dict[str, str]) -> list[str]:
    """Domains of the demo account."""
    for name in NAMES:
        body = {"name": name, "next_hops": [{"host": "127.0.0.1", "port": 25}], "account": seeds["account"]}
        assert (await operator.call("POST", "/domains", body)).status == 201
    return NAMES


async def begin(door: Door, **wanted: Any) -> Any:
    """A bulk change that was taken on."""
    reply = await door.call("POST", "/bulk/settings", {"patch": PATCH, **wanted})
    assert reply.status == 202, reply.content
    return reply.json


async def progress(door: Door, bulk_id: str) -> Any:
    """How far it is."""
    return (await door.call("GET", f"/bulk/settings/{bulk_id}")).json


@asynccontextmanager
async def publishing(pool: Any, receipts: Receipts) -> AsyncIterator[None]:
    """Stands for publisher and receipts: what is committed is published at once."""

    async def publish() -> None:
        while True:
            row = await pool.fetchrow("select generation, revision from revision_counter")
            receipts.wrote(msgspec.json.encode({**dict(row), "digest": "", "count": 0}))
            await asyncio.sleep(0.002)

    task = asyncio.create_task(publish())
    yield
    task.cancel()


async def test_all_domains_are_changed_each_under_a_revision_of_its_own(
    owner: Door, many: list[str], pool: Any, receipts: Receipts, report: Report
) -> None:
    await add_node(pool, "mx1")
    before = await pool.fetchval("select revision from revision_counter")
    taken = await begin(owner, all=True)
    assert (taken["state"], taken["total"], taken["waiting"], taken["applied"]) == ("running", COUNT, COUNT, False)
    async with publishing(pool, receipts):
        assert await bulk.write(pool, receipts, taken["id"]) == -(-COUNT // bulk.BATCH)
    done = await progress(owner, taken["id"])
    assert (done["state"], done["changed"], done["waiting"], done["revision"]) == ("done", COUNT, 0, before + COUNT)
    assert (done["applied"], done["awaited"]) == (False, ["mx1"])
    await report("mx1")
    assert (await progress(owner, taken["id"]))["applied"] is True
    rows = await pool.fetch(
        "select revision, key, value, bulk from outbox where revision > $1 order by revision", before
    )
    assert [row["key"] for row in rows] == [keys.domain(name) for name in many]
    for row in rows:
        layer = msgspec.json.decode(row["value"], type=DomainLayer)
        shown = (await owner.call("GET", f"/domains/{layer.domain}/settings")).json
        assert (row["bulk"], layer.settings, shown["hash"]) == (True, PATCH, digest(row["value"]))
        assert shown["revision"] == row["revision"]
    told = (await owner.call("GET", f"/domains/{many[0]}/settings/history")).json["items"][0]
    assert (told["author"], told["door"], told["diff"][0]["after"]) == ("token owner", "api", 8)
    rolled = await owner.call("POST", f"/domains/{many[0]}/settings/rollback", {"revision": before})
    assert rolled.status == 422, "a revision of another domain"


async def test_what_one_domain_cannot_take_is_refused_before_anything_is_stored(
    owner: Door, operator: Door, many: list[str], pool: Any
) -> None:
    for patch, field in (
        ({"scoring": {"refuse_at": "x"}}, "scoring.refuse_at"),
        ({"nothing": {"mode": "on"}}, "nothing"),
        ({"locks": ["scoring.nothing"]}, "locks"),
    ):
        reply = await owner.call("POST", "/bulk/settings", {"patch": patch, "all": True})
        assert (reply.status, reply.json["field"]) == (422, field), reply.content
        assert "d000.test" in reply.json["reason"]
    await operator.call("PATCH", "/system/settings", {"locks": ["scoring"]})
    assert (await owner.call("POST", "/bulk/settings", {"patch": PATCH, "all": True})).status == 422
    assert await pool.fetchval("select count(*) from bulk_changes") == 0


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({}, 422),
        ({"all": True, "domains": ["d000.test"]}, 422),
        ({"domains": ["d000.test", "nobody.test"]}, 404),
        ({"domains": ["not a name"]}, 422),
        ({"domains": []}, 422),
        ({"account": "nobody"}, 404),
        ({"all": True, "patch": {}}, 422),
        ({"all": True, "patch": []}, 422),
        ({"all": "yes"}, 422),
    ],
)
async def test_what_is_no_bulk_change(owner: Door, many: list[str], wanted: dict[str, Any], status: int) -> None:
    reply = await owner.call("POST", "/bulk/settings", {"patch": PATCH, **wanted})
    assert reply.status == status, reply.content


async def test_a_stranger_sees_and_changes_nothing(
    owner: Door, stranger: Door, many: list[str], seeds: dict[str, str]
) -> None:
    taken = await begin(owner, domains=many[:2])
    for method, path in (("GET", ""), ("POST", "/stop")):
        assert (await stranger.call(method, f"/bulk/settings/{taken['id']}{path}")).status == 404
    for wanted in ({"domains": many[:2]}, {"account": seeds["account"]}):
        assert (await stranger.call("POST", "/bulk/settings", {"patch": PATCH, **wanted})).status == 404
    assert (await stranger.call("POST", "/bulk/settings", {"patch": PATCH, "all": True})).status == 422


async def test_after_a_crash_it_goes_on_where_it_was(
    owner: Door, many: list[str], pool: Any, receipts: Receipts
) -> None:
    taken = await begin(owner, all=True)
    assert await bulk_write.step(pool, taken["id"], 10)
    dying = await pool.acquire()
    transaction = dying.transaction()
    await transaction.start()
    await dying.execute("update revision_counter set revision = revision + 10")
    await dying.execute("update bulk_items set outcome = 'changed' where domain > 'd009.test' and domain < 'd020.test'")
    dying.terminate()
    await pool.release(dying)
    async with publishing(pool, receipts):
        running = asyncio.create_task(bulk.run(pool, receipts))
        await until(lambda: _is_done(owner, taken["id"]))
        running.cancel()
    done = await progress(owner, taken["id"])
    assert (done["changed"], done["same"], done["failed"]) == (COUNT, 0, 0)
    again = await begin(owner, all=True)
    await bulk.write(pool, receipts, again["id"])
    assert (await progress(owner, again["id"]))["same"] == COUNT


async def _is_done(door: Door, bulk_id: str) -> bool:
    return bool((await progress(door, bulk_id))["state"] == "done")


async def test_two_panels_at_once_write_each_domain_once(
    owner: Door, many: list[str], pool: Any, receipts: Receipts
) -> None:
    taken = await begin(owner, all=True)
    before = await pool.fetchval("select revision from revision_counter")
    async with publishing(pool, receipts):
        await asyncio.gather(*(bulk.write(pool, receipts, taken["id"]) for _ in range(3)))
        await bulk.write(pool, receipts, taken["id"])
    assert (await progress(owner, taken["id"]))["changed"] == COUNT
    assert await pool.fetchval("select revision from revision_counter") == before + COUNT


async def test_what_happens_to_one_domain_meanwhile_is_its_own_affair(
    owner: Door, many: list[str], pool: Any, receipts: Receipts
) -> None:
    taken = await begin(owner, all=True)
    await owner.call("DELETE", f"/domains/{many[3]}")
    await owner.call("PATCH", f"/domains/{many[4]}/settings", {"scoring": {"tag": "[X]"}})
    await owner.call("PATCH", f"/domains/{many[5]}/settings", PATCH)
    async with publishing(pool, receipts):
        await bulk.write(pool, receipts, taken["id"])
    done = await progress(owner, taken["id"])
    assert (done["changed"], done["same"], done["failed"]) == (COUNT - 2, 1, 1)
    assert done["failures"] == [{"domain": many[3], "reason": f"there is no domain “{many[3]}”"}]
    shown = (await owner.call("GET", f"/domains/{many[4]}/settings")).json
    assert shown["scoring"] == {"tag": "[X]", "refuse_at": 8}


async def test_it_can_be_stopped(owner: Door, many: list[str], pool: Any, receipts: Receipts) -> None:
    taken = await begin(owner, all=True)
    await bulk_write.step(pool, taken["id"], 10)
    stopped = (await owner.call("POST", f"/bulk/settings/{taken['id']}/stop")).json
    assert (stopped["state"], stopped["changed"], stopped["waiting"]) == ("stopped", 10, COUNT - 10)
    assert await bulk.write(pool, receipts, taken["id"]) == 0
    assert await bulk_write.oldest_running(pool) is None


async def test_it_waits_while_an_interactive_change_is_under_way(
    owner: Door, many: list[str], pool: Any, receipts: Receipts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "YIELD_S", 60.0)
    taken = await begin(owner, all=True)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def edit(connection: Any, layer: Any) -> Any:
        entered.set()
        await leave.wait()
        return settings.patched(layer, [], {"scoring": {"tag": "[Y]"}})

    interactive = asyncio.create_task(layers.change(pool, OPERATOR, "system", "", edit))
    await entered.wait()
    writing = asyncio.create_task(bulk.write(pool, receipts, taken["id"]))
    asked = await _asked_often(pool, writing)
    assert asked, "the writer looked and found somebody at work"
    assert (await progress(owner, taken["id"]))["changed"] == 0
    leave.set()
    written = await interactive
    async with publishing(pool, receipts):
        await writing
    first = await pool.fetchval("select min(revision) from history where author = 'token owner' and act = 'settings'")
    assert written.revision < first


async def _asked_often(pool: Any, writing: "asyncio.Task[int]") -> bool:
    for _ in range(10):
        assert await layers.is_busy(pool)
        await asyncio.sleep(bulk.AGAIN_S)
    return not writing.done()


async def test_it_does_not_run_ahead_of_the_publisher(
    owner: Door, many: list[str], pool: Any, receipts: Receipts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "STALL_S", 60.0)
    taken = await begin(owner, all=True)
    before = await pool.fetchval("select revision from revision_counter")
    writing = asyncio.create_task(bulk.write(pool, receipts, taken["id"]))
    two_batches: Callable[[], Any] = lambda: _has_written(pool, before + 2 * bulk.BATCH)  # noqa: E731
    await until(two_batches)
    for _ in range(20):
        assert not await _has_written(pool, before + 2 * bulk.BATCH + 1)
    receipts.wrote(msgspec.json.encode({"generation": 1, "revision": before + bulk.BATCH, "digest": "", "count": 0}))
    assert await writing == 3


async def _has_written(pool: Any, revision: int) -> bool:
    return bool(await pool.fetchval("select revision from revision_counter") >= revision)
