"""A copy that is too late for its worker is nowhere in the end: unwritten, unshipped, or withdrawn wherever it is."""

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec

from syncd.spool.client import NotSecured, SpoolClient
from syncd.spool.frames import Kind
from syncd.spool.messages import Hello, Purpose, greeting, item, number_frame, record_frames
from syncd.spool.record import Kind as RecordKind
from syncd.spool.wire import Wire
from tests.syncd.running import until
from tests.syncd.spool.parts import ULID, Installation, Quarantine, SpoolProcess, body_of, record, spool
from tests.syncd.spool.test_way import pair, released, secured_within, until_secured

Run = Callable[[Any], Any]


async def test_what_a_frozen_spool_finds_too_late_is_never_shipped(
    installation: Installation, receiver: Quarantine, run: Run
) -> None:
    node = run(spool(installation, "mx1", receiver.port))
    await node.ready()
    assert node.process
    async with SpoolClient(node.socket) as client:
        await secured_within(client, 100)
        node.process.send_signal(signal.SIGSTOP)
        asked = [client.secure(record(number), body_of(number, 200_000)) for number in range(8)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, NotSecured) for answer in answers)
        node.process.send_signal(signal.SIGCONT)
        await until_secured(client, 101)
    await released(node)
    assert receiver.ids() == [ULID.format(100), ULID.format(101)], "a sender heard 451 and comes again with these"


async def as_worker(node: SpoolProcess) -> Wire:
    """A worker's connection, greeted."""
    wire = Wire(*await asyncio.open_unix_connection(node.socket))
    wire.writer.write(greeting(Kind.HELLO, Hello(Purpose.WORKER, instance="w1")))
    assert (await wire.first()).kind is Kind.WELCOME
    return wire


def submitted(number: int, by: float) -> bytes:
    """The frames of a submission."""
    header, body = msgspec.json.encode(record(number)), body_of(number)
    made = item(number, RecordKind.KEPT, ULID.format(number), header, body, by)
    return b"".join(record_frames(Kind.SUBMIT, made, header + body))


async def test_what_is_late_when_it_is_read_is_not_even_written(
    installation: Installation, receiver: Quarantine, run: Run
) -> None:
    node = run(spool(installation, "mx1", receiver.port))
    await node.ready()
    wire = await as_worker(node)
    wire.writer.write(submitted(1, time.monotonic() - 0.001))
    assert (await wire.first()).kind is Kind.NOT_SECURED
    assert node.metric("syncd_spool_records") == 0
    wire.abort()


async def test_a_worker_that_gives_up_after_the_answer_has_the_copy_removed_wherever_it_is(
    installation: Installation, receiver: Quarantine, run: Run
) -> None:
    mx1, _ = await pair(installation, run, receiver.port)
    wire = await as_worker(mx1)
    for number in (1, 2):
        wire.writer.write(submitted(number, time.monotonic() + 5))
        assert (await wire.first()).kind is Kind.SECURED
    await until(lambda: receiver.ids() == [ULID.format(1), ULID.format(2)], why="both to be stored")
    receiver.refuse_to_store()
    wire.writer.write(number_frame(Kind.GIVEN_UP, 1))
    await until(lambda: receiver.events("not_withdrawn_now"), why="the receiver to be told")
    mx1.kill()
    receiver.kill()
    mx1.start()
    receiver.start()
    await mx1.ready()
    assert mx1.metric("syncd_spool_records") > 0, "the mark was lost with the process"
    receiver.refuse_to_store(False)
    await until(lambda: receiver.ids() == [ULID.format(2)], why="the first to go")
    await released(mx1)
    wire.abort()
