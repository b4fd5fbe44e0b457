"""The feed of receipts over a real etcd that is killed, frozen, and not there yet."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from control.receipts import AWAY, Receipts
from control.receipts_feed import END, FIRST, follow
from syncd import config, keys
from syncd.etcd import Etcd as Client
from tests.services import Etcd

WITHIN_S = 20


@dataclass(frozen=True)
class Wanted:
    """A change to wait for."""

    revision: int
    members: tuple[str, ...]
    generation: int = 1
    key: str = ""


def meta(revision: int) -> dict[str, Any]:
    return {"generation": 1, "revision": revision, "digest": f"d{revision}", "count": 1}


def receipt(node: str, revision: int) -> dict[str, Any]:
    return {**meta(revision), "node": node, "state": "live", "at": 1.0, "unreadable": [], "version": "1", "pid": 1}


def place(etcd: Etcd) -> config.Etcd:
    return config.Etcd((etcd.endpoint,), etcd.tls)


async def put(etcd: Etcd, **values: dict[str, Any] | str | None) -> None:
    """META as `meta`, receipts by node; None deletes. On a connection of its own, as the nodes' are."""
    async with Client(place(etcd)) as client:
        for name, value in values.items():
            key = keys.META if name == "meta" else keys.receipt(name)
            if value is None:
                await client.delete(key)
            else:
                await client.put(key, value.encode() if isinstance(value, str) else msgspec.json.encode(value))


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not check():  # noqa: ASYNC110 - the state wakes only who waits for a revision
            await asyncio.sleep(0.01)


def test_one_range_holds_meta_and_receipts_alone() -> None:
    inside = (keys.META, keys.receipt("mx1"), keys.receipt("~"))
    outside = (keys.ELECTION, keys.SYSTEM, keys.domain("a.test"), keys.member("mx1"), keys.shard("0"))
    assert all(FIRST <= key < END for key in inside)
    assert not any(FIRST <= key < END for key in outside)


async def test_it_lists_watches_and_passes_over_what_it_cannot_read(etcd: Etcd) -> None:
    receipts = Receipts()
    await put(etcd, meta=meta(1), mx1=receipt("mx1", 1))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(follow(place(etcd), receipts))
        assert await receipts.wait_applied(Wanted(1, ("mx1",)), WITHIN_S), "what was there is listed"
        await put(etcd, mx2="no receipt {", meta=meta(2), mx1=receipt("mx1", 2))
        await put(etcd, mx2=receipt("mx2", 2))
        assert await receipts.wait_applied(Wanted(2, ("mx1", "mx2")), WITHIN_S), "what comes is seen"
        await put(etcd, mx2=None)
        await until(lambda: receipts.snapshot()["mx2"].receipt.state == AWAY)
        assert receipts.nodes(Wanted(2, ("mx2",)))["mx2"].revision == 2, "what it said last is not forgotten"
        task.cancel()


async def test_a_report_may_overtake_what_it_reports(etcd: Etcd) -> None:
    receipts = Receipts()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(follow(place(etcd), receipts))
        await put(etcd, mx1=receipt("mx1", 5))
        await until(lambda: "mx1" in receipts.snapshot())
        assert receipts.nodes(Wanted(5, ("mx1",)))["mx1"].agrees is None
        await put(etcd, meta=meta(5))
        assert await receipts.wait_applied(Wanted(5, ("mx1",)), WITHIN_S)
        task.cancel()


@pytest.mark.parametrize("mtls", [False, True])
def test_it_outlives_etcd(make_etcd: Callable[..., Etcd], mtls: bool) -> None:
    """Not there yet, killed, frozen until the watch is given up: each time it goes on by itself."""
    etcd, receipts = make_etcd(mtls=mtls), Receipts()
    etcd.kill()
    with asyncio.Runner() as runner:
        task = runner.get_loop().create_task(follow(place(etcd), receipts))
        runner.run(asyncio.sleep(0.3))
        etcd.start()
        runner.run(put(etcd, meta=meta(1), mx1=receipt("mx1", 1)))
        assert runner.run(receipts.wait_applied(Wanted(1, ("mx1",)), WITHIN_S))
        etcd.kill()
        assert not runner.run(receipts.wait_applied(Wanted(2, ("mx1",)), 0.3))
        etcd.start()
        runner.run(put(etcd, meta=meta(2), mx1=receipt("mx1", 2)))
        assert runner.run(receipts.wait_applied(Wanted(2, ("mx1",)), WITHIN_S))
        etcd.send_signal(signal.SIGSTOP)
        runner.run(asyncio.sleep(6))
        etcd.send_signal(signal.SIGCONT)
        runner.run(put(etcd, meta=meta(3), mx1=receipt("mx1", 3)))
        assert runner.run(receipts.wait_applied(Wanted(3, ("mx1",)), WITHIN_S))
        assert not task.done()
        task.cancel()
