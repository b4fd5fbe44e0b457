"""Strangers, liars and the garbled at the spool's doors, and a peer that takes over from a lost node."""

import asyncio
import contextlib
import os
import random
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from syncd import config
from syncd.spool import messages
from syncd.spool.client import MAX_EVENTS, NotSecured, SpoolClient
from syncd.spool.frames import Frame, Kind, Reader, encode
from syncd.spool.identity import Identity
from syncd.spool.messages import Code, Farewell, Hello, Purpose, Welcome
from syncd.spool.node import Spool
from syncd.spool.record import Kind as RecordKind
from syncd.spool.wire import Gone, Wire
from tests.syncd.running import until
from tests.syncd.spool.parts import ULID, Installation, Quarantine, body_of, quarantine, record, spool, tell_members

Run = Callable[[Any], Any]
EPOCH = "0123456789abcdef" * 2
HELLO = Hello(Purpose.OWN, "mx1", EPOCH)


@contextlib.asynccontextmanager
async def connected(port: int, tls: config.Tls) -> AsyncIterator[Wire]:
    """A TLS connection to a holder, as whoever the certificate says."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=Identity(tls).client)
    wire = Wire(reader, writer)
    try:
        yield wire
    finally:
        wire.abort()


async def answer(wire: Wire, *frames: bytes) -> Frame:
    """What comes back."""
    for frame in frames:
        wire.writer.write(frame)
    async with asyncio.timeout(10):
        return await wire.first()


async def refused(wire: Wire, *frames: bytes) -> Code:
    """Why it is refused; the connection ends behind it."""
    frame = await answer(wire, *frames)
    assert frame.kind is Kind.REFUSE, frame
    with pytest.raises(Gone):
        await answer(wire)
    return messages.read_greeting(frame, Farewell).code


def shipped(position: int, record_id: str = "01ID", body: bytes = b"body") -> bytes:
    """The frames of a record."""
    header = b'{"id":"01ID","kind":"kept"}'
    item = messages.item(position, RecordKind.KEPT, record_id, header, body, 1.0)
    return b"".join(messages.record_frames(Kind.RECORD, item, header + body))


def hello(**changes: Any) -> bytes:
    """A HELLO frame."""
    fields = {"purpose": Purpose.OWN, "node": "mx1", "epoch": EPOCH, **changes}
    return messages.greeting(Kind.HELLO, Hello(**fields))


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", Code.PROTOCOL),
        (b"mx\x09\x01\x00\x00\x00\x00", Code.VERSION),
        (hello(major=2), Code.VERSION),
        (encode(Kind.PING), Code.PROTOCOL),
        (encode(Kind.HELLO, b"{"), Code.PROTOCOL),
        (hello(epoch=""), Code.PROTOCOL),
        (hello(epoch="../" * 10 + "ab"), Code.PROTOCOL),
        (hello(node="mx2"), Code.FORBIDDEN),
        (hello(node=""), Code.FORBIDDEN),
        (hello(purpose=Purpose.COPY), Code.FORBIDDEN),
        (hello(purpose=Purpose.WORKER), Code.FORBIDDEN),
        (hello(purpose=Purpose.TAKEOVER), Code.FORBIDDEN),
    ],
)
async def test_who_is_refused_by_a_receiver(
    frame: bytes, code: Code, installation: Installation, receiver: Quarantine
) -> None:
    async with connected(receiver.port, installation.tls("mx1")) as wire:
        assert await refused(wire, frame) is code


@pytest.mark.parametrize("who", ["mxfleet://receiver", "mxfleet://node/../../etc", "mxfleet://node/", ""])
async def test_who_is_no_node_ships_nothing(who: str, installation: Installation, receiver: Quarantine) -> None:
    async with connected(receiver.port, installation.tls("stranger", who)) as wire:
        assert await refused(wire, hello()) is Code.FORBIDDEN


async def test_a_certificate_of_another_authority_or_none_ends_in_the_handshake(
    installation: Installation, receiver: Quarantine, here: Path
) -> None:
    stranger = Installation(here / "other")
    ours = installation.tls("mx1")
    theirs = config.Tls(ours.ca, *(getattr(stranger.tls("mx1"), name) for name in ("cert", "key")))
    with pytest.raises((ssl.SSLError, OSError, Gone)):
        async with connected(receiver.port, theirs) as wire:
            await answer(wire, hello())
    plain = ssl.create_default_context(cafile=ours.ca)
    plain.check_hostname = False
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await first_byte(receiver.port, plain)
    old = Identity(ours).client
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", receiver.port, ssl=old)


async def first_byte(port: int, context: ssl.SSLContext) -> bytes:
    """What a holder says first to who greets it; under TLS 1.3 a client learns here that its certificate is refused."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(hello())
        return await reader.readexactly(1)
    finally:
        writer.transport.abort()


async def test_a_node_does_not_ship_to_who_is_not_the_receiver(
    installation: Installation, receiver: Quarantine, run: Run
) -> None:
    """An address that was given to another node: its certificate says so."""
    mx1 = spool(installation, "mx1", receiver.port)
    assert mx1.node
    mx2 = run(spool(installation, "mx2", mx1.node.spool.port))
    run(mx1)
    await mx1.ready()
    await mx2.ready()
    async with SpoolClient(mx2.socket) as client:
        with pytest.raises(NotSecured):
            await client.secure(record(1), b"x")
    assert any("mxfleet://node/mx1" in event["why"] for event in mx2.events("link_down"))


async def test_a_position_with_another_id_is_refused_and_the_first_stays(
    installation: Installation, receiver: Quarantine
) -> None:
    receiver.refuse_to_store()
    for round_number in range(2):
        async with connected(receiver.port, installation.tls("mx1")) as wire:
            assert (await answer(wire, hello())).kind is Kind.WELCOME
            held = await answer(wire, shipped(5))
            assert (held.kind, messages.read_ranges(held)) == (Kind.HELD, ((5, 5),))
            assert await refused(wire, shipped(5, "01OTHER")) is Code.CONFLICT
        if round_number == 0:
            receiver.kill()
            receiver.start()
            await until(receiver.listens)
    assert len(receiver.events("position_conflict")) == 2
    receiver.refuse_to_store(False)
    await until(lambda: [each["position"] for each in receiver.stored()] == [5], why="the first to be stored")


async def test_what_is_stored_is_said_to_be_and_not_stored_again(
    installation: Installation, receiver: Quarantine
) -> None:
    async with connected(receiver.port, installation.tls("mx1")) as wire:
        await answer(wire, hello())
        assert (await answer(wire, shipped(1))).kind is Kind.HELD
        stored = await answer(wire)
        assert (stored.kind, messages.read_ranges(stored)) == (Kind.STORED, ((1, 1),))
    async with connected(receiver.port, installation.tls("mx1")) as wire:
        welcome = messages.read_greeting(await answer(wire, hello()), Welcome)
        assert (welcome.held, welcome.stored) == ((), ((1, 1),))
        again = await answer(wire, shipped(1))
        assert (again.kind, messages.read_ranges(again)) == (Kind.STORED, ((1, 1),))
    assert len(receiver.stored()) == 1


async def test_what_is_withdrawn_before_it_was_stored_is_never_stored(
    installation: Installation, receiver: Quarantine
) -> None:
    receiver.refuse_to_store()
    async with connected(receiver.port, installation.tls("mx1")) as wire:
        await answer(wire, hello())
        for position in range(1, 4):  # by then a batch with some of them is tried again and again
            assert (await answer(wire, shipped(position))).kind is Kind.HELD
        frame = await answer(wire, *messages.ranges_frames(Kind.WITHDRAWN, ((2, 3),)), encode(Kind.PING))
        while frame.kind is not Kind.PONG:
            frame = await answer(wire)
        receiver.refuse_to_store(False)
        wire.writer.write(shipped(4))
        await until(lambda: len(receiver.stored()) >= 2, why="the rest to be stored")
    assert {each["position"] for each in receiver.stored()} == {1, 4}


async def test_a_newer_minor_is_served_and_its_unknown_frames_are_skipped(
    installation: Installation, receiver: Quarantine
) -> None:
    unknown = b"mx\x01\x63\x00\x00\x00\x03abc"
    async with connected(receiver.port, installation.tls("mx1")) as wire:
        await answer(wire, hello(minor=7))
        assert (await answer(wire, unknown, shipped(1))).kind is Kind.HELD
    async with connected(receiver.port, installation.tls("mx1")) as wire:
        await answer(wire, hello())
        assert await refused(wire, unknown) is Code.PROTOCOL


@pytest.mark.parametrize("seed", range(5))
async def test_noise_ends_cleanly_and_the_next_is_served(
    seed: int, installation: Installation, receiver: Quarantine
) -> None:
    chooser = random.Random(seed)
    for _ in range(20):
        async with connected(receiver.port, installation.tls("mx1")) as wire:
            data = bytearray(shipped(1, body=chooser.randbytes(500)))
            for _ in range(chooser.randrange(1, 5)):
                data[chooser.randrange(len(data))] = chooser.randrange(256)
            await answer(wire, hello())
            wire.writer.write(bytes(data[: chooser.randrange(1, len(data))]))
            wire.writer.write_eof() if wire.writer.can_write_eof() else wire.writer.close()
    async with connected(receiver.port, installation.tls("mx1")) as wire:
        assert (await answer(wire, hello(epoch="f" * 32))).kind is Kind.WELCOME
        assert (await answer(wire, shipped(1))).kind is Kind.HELD
    assert b"Traceback" not in receiver.log.read_bytes()


async def test_noise_on_the_workers_socket(installation: Installation, receiver: Quarantine, run: Run) -> None:
    node = run(spool(installation, "mx1", receiver.port))
    await node.ready()
    good = messages.greeting(Kind.HELLO, Hello(Purpose.WORKER, instance="w"))
    for data in (b"\0" * 20, hello(), good + encode(Kind.HELD), good + encode(Kind.SUBMIT, b"x"), good[:5], good * 2):
        reader, writer = await asyncio.open_unix_connection(node.socket)
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(10):
            frames = list(Reader().feed(await reader.read()))
        assert all(frame.kind in (Kind.WELCOME, Kind.REFUSE) for frame in frames)
        writer.close()
    assert os.stat(node.socket).st_mode & 0o777 == 0o600
    async with SpoolClient(node.socket) as client:
        await client.secure(record(1), b"x")
    assert b"Traceback" not in node.log.read_bytes()


# --- the worker's side


async def test_a_worker_without_a_spool_gets_its_answer_in_time_and_loses_no_event(
    installation: Installation, receiver: Quarantine, run: Run
) -> None:
    node = spool(installation, "mx1", receiver.port)
    async with SpoolClient(node.socket, timeout_s=0.3) as client:
        with pytest.raises(NotSecured, match=r"within 0\.3 s"):
            async with asyncio.timeout(2):
                await client.secure(record(1), b"x")
        for number in range(10):
            client.event(record(number, kind=RecordKind.EVENT))
        run(node)
        await until(lambda: len(receiver.ids(RecordKind.EVENT)) == 10, why="the events to arrive")


async def test_a_record_that_cannot_travel_is_an_answer(
    installation: Installation, receiver: Quarantine, run: Run
) -> None:
    node = run(spool(installation, "mx1", receiver.port))
    await node.ready()
    async with SpoolClient(node.socket) as client:
        with pytest.raises(NotSecured, match="an id of 37 bytes"):
            await client.secure(record(10**30), b"x")
        client.event(record(10**30, kind=RecordKind.EVENT))
        for number in range(MAX_EVENTS + 5):
            client.event(record(number, kind=RecordKind.EVENT))
        assert len(client._events) <= MAX_EVENTS
        await client.secure(record(1), b"x")


async def test_a_copy_that_its_worker_gave_up_is_withdrawn(installation: Installation, run: Run) -> None:
    hall = quarantine(installation)
    node = run(spool(installation, "mx1", hall.port))
    await node.ready()
    async with SpoolClient(node.socket, timeout_s=30) as client:
        asked = asyncio.create_task(client.secure(record(1), body_of(1)))
        await until(lambda: node.metric("syncd_spool_records") == 1, why="it to be journalled")
        asked.cancel()
        # It counts until a receiver has heard of the withdrawal, but no copy of it is wanted any more.
        await until(lambda: node.metric("syncd_spool_unreplicated_bytes") == 0, why="it to be withdrawn")
    run(hall)
    await until(hall.listens)
    await until(lambda: node.metric("syncd_spool_records") == 0, why="the receiver to hear of it")
    async with SpoolClient(node.socket) as client:
        await client.secure(record(2), body_of(2))
        await until(lambda: hall.ids() == [ULID.format(2)], why="the other alone to be stored")


# --- a lost node


@contextlib.asynccontextmanager
async def running(node: config.Node, takeover_after_s: float) -> AsyncIterator[Spool]:
    """A node's spool in this process."""
    spool = Spool(node, takeover_after_s=takeover_after_s)
    task = asyncio.create_task(spool.run())
    try:
        yield spool
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_node_lost_with_its_disk_loses_no_mail(installation: Installation, run: Run) -> None:
    hall = quarantine(installation)
    mx1, mx2 = spool(installation, "mx1", hall.port), spool(installation, "mx2", hall.port)
    tell_members([mx1, mx2])
    assert mx2.node
    async with running(mx2.node, takeover_after_s=0.5) as survivor:
        run(mx1)
        await mx1.ready()
        bodies = {1: body_of(1), 2: b"x" * 2_000_000, 3: body_of(3)}
        async with SpoolClient(mx1.socket) as client:
            for number, body in bodies.items():
                await client.secure(record(number, body), body)
        mx1.kill()
        shutil.rmtree(mx1.journal)
        run(hall)
        await until(lambda: set(hall.ids()) == {ULID.format(n) for n in bodies}, why="the peer's copies to be stored")
        await until(lambda: survivor._holding.count == 0, why="the copies to be let go")
        run(mx1)  # the same node again, empty: nothing comes twice
        await mx1.ready()
        async with SpoolClient(mx1.socket) as client:
            await client.secure(record(4), body_of(4))
        await until(lambda: len(hall.stored()) == 4, why="the next to be stored")
