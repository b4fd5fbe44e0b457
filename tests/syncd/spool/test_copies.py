"""A holder that stays away is not relied on: what only it held goes to another, before anybody needs it."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from syncd.spool import origin
from syncd.spool.client import SpoolClient
from syncd.spool.node import Spool
from tests.syncd.running import until
from tests.syncd.spool.parts import Installation, Quarantine, body_of, record, spool, tell_members

Run = Callable[[Any], Any]


@contextlib.asynccontextmanager
async def in_this_process(spool: Spool) -> AsyncIterator[Spool]:
    """The spool, running."""
    task = asyncio.create_task(spool.run())
    try:
        yield spool
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_what_only_a_lost_holder_held_goes_to_another(
    how: str, installation: Installation, receiver: Quarantine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin, "LOST_S", 0.3)
    mx1, mx2 = spool(installation, "mx1", receiver.port), run(spool(installation, "mx2", receiver.port))
    tell_members([mx1, mx2])
    await mx2.ready()
    receiver.refuse_to_store()
    assert mx1.node
    async with in_this_process(Spool(mx1.node)) as node, SpoolClient(mx1.socket) as client:
        await until(lambda: all(link.is_up for link in node._current._links.values()) and node._current._links)
        for number in range(5):
            await client.secure(record(number), body_of(number))
        assert receiver.process
        if how == "killed":
            receiver.kill()
        else:
            receiver.process.send_signal(signal.SIGSTOP)
        await until(lambda: mx2.metric("syncd_spool_held_records") == 5, why="the peer to hold what the receiver had")
        await until(lambda: node._current.alone_bytes == 0, why="nothing to be alone")
        if how == "killed":
            receiver.start()
        else:
            receiver.process.send_signal(signal.SIGCONT)
        receiver.refuse_to_store(False)
        await until(lambda: len(receiver.stored()) == 5, why="all to be stored, once")
        await until(lambda: mx2.metric("syncd_spool_held_records") == 0, why="the copies to be released")
        await until(lambda: node._current.journal.live_bytes == 0)
