"""A copy's whole way through real processes over real TLS: worker, spool, peer, receiver; each killed, frozen, away."""

import hashlib
from collections.abc import Callable
from typing import Any

from syncd.spool.client import SpoolClient
from syncd.spool.record import Kind
from tests.syncd.running import until
from tests.syncd.spool.parts import Installation, Quarantine, body_of, record, spool

Run = Callable[[Any], Any]


async def test_a_copy_is_secured_stored_and_released(
    installation: Installation, receiver: Quarantine, run: Run
) -> None:
    node = run(spool(installation, "mx1", receiver.port))
    await node.ready()
    async with SpoolClient(node.socket) as client:
        for number in range(20):
            await client.secure(record(number), body_of(number))
        client.event(record(100, kind=Kind.EVENT))
        await until(lambda: len(receiver.stored()) == 21, why="everything stored")
    assert [each["sha256"] for each in receiver.stored()[:20]] == [
        hashlib.sha256(body_of(number)).hexdigest() for number in range(20)
    ]
    await until(lambda: node.metric("syncd_spool_records") == 0, why="everything released")
    assert node.metric("syncd_spool_unreplicated_bytes") == 0
