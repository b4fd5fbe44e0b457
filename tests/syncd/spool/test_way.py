"""A copy's whole way through real processes over real TLS: worker, spool, peer, receiver; each killed, frozen, away."""

import asyncio
import hashlib
import resource
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from syncd.spool.client import NotSecured, SpoolClient
from syncd.spool.record import Kind
from tests.syncd.running import until
from tests.syncd.spool.parts import (
    ULID,
    Installation,
    Quarantine,
    SpoolProcess,
    body_of,
    quarantine,
    record,
    spool,
    tell_members,
)

Run = Callable[[Any], Any]
BOUND_S = 1.0
SLACK_S = 1.0
"""What a loaded machine may add to a bound before a test complains."""


async def pair(installation: Installation, run: Run, receiver_port: int, **settings: Any) -> list[SpoolProcess]:
    """Two running nodes, each the other's peer."""
    nodes = [spool(installation, name, receiver_port, **settings) for name in ("mx1", "mx2")]
    tell_members(nodes)
    for node in nodes:
        run(node)
    for node in nodes:
        await node.ready()
    return nodes


async def secured_within(client: SpoolClient, number: int, body: bytes | None = None) -> None:
    """Secure one record; fails when neither answer comes within the bound."""
    async with asyncio.timeout(BOUND_S + SLACK_S):
        await client.secure(record(number), body_of(number) if body is None else body)


async def released(*nodes: SpoolProcess) -> None:
    """Wait until nodes have nothing of their own left."""
    for node in nodes:
        await until(lambda node=node: node.metric("syncd_spool_records") == 0, why=f"{node.directory.name} released")


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
    hashes = [each["sha256"] for each in receiver.stored()[:20]]
    assert hashes == [hashlib.sha256(body_of(number)).hexdigest() for number in range(20)]
    await released(node)
    assert node.metric("syncd_spool_unreplicated_bytes") == 0


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_peer_holds_while_the_receiver_is(
    how: str, installation: Installation, receiver: Quarantine, run: Run
) -> None:
    mx1, mx2 = await pair(installation, run, receiver.port)
    async with SpoolClient(mx1.socket) as client, SpoolClient(mx2.socket) as other:
        await secured_within(client, 0)
        if how == "killed":
            receiver.kill()
        else:
            assert receiver.process
            receiver.process.send_signal(signal.SIGSTOP)
        for number in range(1, 6):
            await secured_within(client, number)
            await secured_within(other, 10 + number)
        await until(lambda: mx2.metric("syncd_spool_held_records") >= 5, why="the peer to hold five")
        assert mx1.metric("syncd_spool_unreplicated_bytes") == 0
        if how == "killed":
            receiver.start()
        else:
            receiver.process.send_signal(signal.SIGCONT)
        await until(lambda: len(receiver.stored()) == 11, why="everything stored")
    await released(mx1, mx2)
    for node in (mx1, mx2):
        await until(lambda node=node: node.metric("syncd_spool_held_records") == 0, why="copies released")


async def test_without_another_host_nothing_is_secured_and_nothing_of_it_ever_kept(
    installation: Installation, run: Run
) -> None:
    hall = quarantine(installation)
    node = run(spool(installation, "mx1", hall.port))
    await node.ready()
    async with SpoolClient(node.socket) as client:
        for number in range(3):
            with pytest.raises(NotSecured, match="no other host"):
                await secured_within(client, number)
        run(hall)
        await until(hall.listens)

        async def comes_through() -> bool:
            try:
                await client.secure(record(9), body_of(9))
            except NotSecured:
                return False
            return True

        async with asyncio.timeout(10):
            while not await comes_through():
                pass
        await released(node)
    assert set(hall.ids()) == {ULID.format(9)}
    node.kill()
    node.start()
    await node.ready()
    await released(node)
    assert set(hall.ids()) == {ULID.format(9)}, "withdrawn records came back with a restart"


async def test_an_installation_may_prefer_an_answer_with_one_copy(installation: Installation, run: Run) -> None:
    hall = quarantine(installation)
    node = run(spool(installation, "mx1", hall.port, when_not_secured="answer", secure_timeout_s=0.3))
    await node.ready()
    async with SpoolClient(node.socket) as client:
        await secured_within(client, 1)
        assert node.metric("syncd_spool_alone_total") == 1
        await until(lambda: node.metric("syncd_spool_unreplicated_bytes") > 3000, why="it to show as alone")
        run(hall)
        await until(lambda: hall.ids() == [ULID.format(1)], why="it to be stored")
    await until(lambda: node.metric("syncd_spool_unreplicated_bytes") == 0, why="nothing alone")


async def load(client: SpoolClient, secured: set[int], numbers: Any, stop: asyncio.Event) -> None:
    """Secure records until told to stop; remembers which were."""
    while not stop.is_set():
        number = next(numbers)
        try:
            await client.secure(record(number), body_of(number))
        except NotSecured:
            await asyncio.sleep(0.02)
        else:
            secured.add(number)


@pytest.mark.parametrize("victim", ["spool", "receiver", "peer", "everything"])
async def test_kills_lose_nothing_that_was_secured(
    victim: str, installation: Installation, receiver: Quarantine, run: Run
) -> None:
    mx1, mx2 = await pair(installation, run, receiver.port)
    victims = {"spool": [mx1], "receiver": [receiver], "peer": [receiver, mx2], "everything": [mx1, mx2, receiver]}
    secured, numbers, stop = set[int](), iter(range(10**6)), asyncio.Event()
    async with SpoolClient(mx1.socket) as client:
        loads = [asyncio.create_task(load(client, secured, numbers, stop)) for _ in range(8)]
        for _ in range(4):
            before = len(secured)
            await until(lambda before=before: len(secured) > before + 50, why="records to be secured")
            for each in victims[victim]:
                each.kill()
            for each in victims[victim]:
                each.start()
        await until(mx1.is_ready)
        before = len(secured)
        await until(lambda: len(secured) > before + 50, why="records to be secured at the end")
        stop.set()
        await asyncio.gather(*loads)
    wanted = {ULID.format(number) for number in secured}
    await until(lambda: wanted <= set(receiver.ids()), why="all secured records to be stored")
    places = [(each["epoch"], each["position"]) for each in receiver.stored()]
    assert len(places) == len(set(places)), "one record was stored twice"
    await released(mx1)
    assert mx1.metric("syncd_spool_set_aside") == 0


async def test_while_nothing_can_be_stored_copies_are_held_and_then_stored(
    installation: Installation, receiver: Quarantine, run: Run
) -> None:
    node = run(spool(installation, "mx1", receiver.port))
    await node.ready()
    receiver.refuse_to_store()
    async with SpoolClient(node.socket) as client:
        for number in range(5):
            await secured_within(client, number)
        receiver.kill()
        receiver.start()
        await until(receiver.listens)
        for number in range(5, 10):
            await until_secured(client, number)
        assert node.metric("syncd_spool_records") == 10
        assert receiver.stored() == []
        receiver.refuse_to_store(False)
        await until(lambda: len(receiver.stored()) == 10, why="everything stored")
    await released(node)


async def until_secured(client: SpoolClient, number: int) -> None:
    """Secure a record, again while the fleet heals."""
    deadline = time.monotonic() + 15
    while True:
        try:
            await client.secure(record(number), body_of(number))
        except NotSecured:
            assert time.monotonic() < deadline
        else:
            return


async def test_big_mail_arrives_whole_and_small_mail_does_not_wait_behind_it(
    installation: Installation, receiver: Quarantine, run: Run
) -> None:
    node = run(spool(installation, "mx1", receiver.port, secure_timeout_s=30.0))
    await node.ready()
    sizes = [0, 1, 999_000, 1_000_001, 5_000_000, 40_000_000]
    bodies = {number: hashlib.sha256(b"%d" % number).digest() * (size // 32 + 1) for number, size in enumerate(sizes)}
    async with SpoolClient(node.socket, timeout_s=30) as client:
        await asyncio.gather(*(client.secure(record(number), body) for number, body in bodies.items()))
        await until(lambda: len(receiver.stored()) == len(sizes), why="everything stored")
    stored = {each["id"]: each["sha256"] for each in receiver.stored()}
    assert stored == {ULID.format(number): hashlib.sha256(body).hexdigest() for number, body in bodies.items()}
    await released(node)


async def test_a_disk_that_takes_nothing_is_an_answer_and_heals(
    installation: Installation, receiver: Quarantine, run: Run
) -> None:
    node = run(spool(installation, "mx1", receiver.port))
    await node.ready()
    assert node.process
    async with SpoolClient(node.socket) as client:
        await secured_within(client, 1)
        limits = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        for number in (2, 3):
            with pytest.raises(NotSecured, match="File too large"):
                await secured_within(client, number)
        client.event(record(4, kind=Kind.EVENT))
        await until(lambda: not node.is_ready(), why="it to say that it is not ready")
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, limits)
        await until_secured(client, 5)
        await until(node.is_ready)
        await until(lambda: {ULID.format(1), ULID.format(5)} <= set(receiver.ids()), why="them to be stored")
    await released(node)
    assert ULID.format(3) not in receiver.ids()


async def test_a_worker_that_dies_leaves_its_recipients_unknown(
    installation: Installation, receiver: Quarantine, run: Run
) -> None:
    node = run(spool(installation, "mx1", receiver.port))
    await node.ready()
    async with SpoolClient(node.socket) as stays:
        async with SpoolClient(node.socket) as dies:
            await asyncio.gather(secured_within(stays, 1), secured_within(dies, 2))
            stays.opened(ULID.format(1), 1)
            dies.opened(ULID.format(2), 1)
            dies.opened(ULID.format(2), 3)
            dies.opened(ULID.format(3), 4)
            dies.closed(ULID.format(3))
            await until(lambda: node.metric("syncd_ledger_opened_total") == 8, why="the ledger to be told")
        await until(lambda: node.metric("syncd_ledger_unknown_total") == 3, why="three to be unknown")
        assert node.metric("syncd_ledger_closed_total") == 4
        stays.closed(ULID.format(1))
        await until(lambda: node.metric("syncd_ledger_closed_total") == 5, why="the other to end")
        stays.opened(ULID.format(4), 2)
        node.kill()
        node.start()
        await until(lambda: node.metric("syncd_ledger_opened_total") == 2, why="what is open to be told again")


async def test_an_orderly_end_answers_what_is_under_way_and_leaves_nothing_open(
    installation: Installation, receiver: Quarantine, run: Run
) -> None:
    node = run(spool(installation, "mx1", receiver.port))
    await node.ready()
    async with SpoolClient(node.socket) as client:
        await secured_within(client, 1)
        asked = [asyncio.create_task(client.secure(record(n), body_of(n))) for n in range(2, 12)]
        await asyncio.sleep(0)
        assert node.kill(signal.SIGTERM) == 0
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(answer is None or isinstance(answer, NotSecured) for answer in answers)
    assert node.events("Task exception was never retrieved") == []
    assert b"Traceback" not in node.log.read_bytes()
    node.start()
    await node.ready()
    await released(node)
    secured = {ULID.format(2 + n) for n, answer in enumerate(answers) if answer is None}
    assert secured <= set(receiver.ids())
