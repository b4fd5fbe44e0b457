"""The whole way of a refused mail: a worker's client, the node's spool process, the receiver's process, PostgreSQL."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from control.quarantine.objects import Objects
from control.quarantine.packs import Packs
from syncd.spool.client import NotSecured, SpoolClient
from tests.control.quarantine.intake.conftest import prepare
from tests.control.quarantine.intake.held import event, kept
from tests.control.quarantine.intake.process import Process
from tests.syncd.running import until
from tests.syncd.spool.parts import Installation, SpoolProcess, spool

MAILS = 40
SECURE_S = 15.0
"""Longer than a receiver takes to start, so that it alone can hold the second copy."""


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Any]:
    """A pool on the migrated database."""
    await prepare(database)
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as made:
        yield made


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """One certificate authority for both."""
    return Installation(tmp_path)


@pytest.fixture
def receiver(database: str, installation: Installation) -> Iterator[Process]:
    """The receiver of an installation, not started yet."""
    made = Process(installation.directory, database, installation.receiver_tls())
    yield made
    made.kill()


@pytest.fixture
async def node(receiver: Process, installation: Installation) -> AsyncIterator[SpoolProcess]:
    """A node's spool process of the same installation, ready."""
    made = spool(installation, "mx1", receiver.port, secure_timeout_s=SECURE_S)
    made.start()
    await made.ready()
    yield made
    made.kill()


async def found(pool: Any, count: int) -> list[Any]:
    """The items, when so many are there."""
    async with asyncio.timeout(30):
        while len(rows := await pool.fetch("select * from quarantine")) < count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    return list(rows)


async def test_refused_mail_is_found_soon_after_it_was_secured(
    receiver: Process, node: SpoolProcess, pool: Any
) -> None:
    receiver.start()
    receiver.until(lambda: receiver.says()[0] == 200)
    body = b"Subject: about zq123\r\n\r\n" + bytes(100_000)
    waits = []
    async with SpoolClient(node.socket, SECURE_S) as client:
        for count in range(1, 6):
            record = kept(body_bytes=len(body), body_sha256=hashlib.sha256(body).hexdigest())
            await client.secure(record, body)
            began = time.monotonic()
            await found(pool, count)
            waits.append(round((time.monotonic() - began) * 1000))
        client.event(event())
        await until(lambda: receiver.metric("control_receiver_stored_total") == 6)
    print("secured → found, ms:", waits)
    row = (await found(pool, 5))[0]
    place = Packs(Objects((receiver.open_packs.parent / "store").as_uri()), receiver.open_packs)
    assert await place.read(row["pack"], row["pack_offset"], row["pack_bytes"]) == body
    assert await pool.fetchval("select count(*) from messages where outcome = 'delivered'") == 1
    await until(lambda: node.metric("syncd_spool_records") == 0, why="the node's spool to be empty")


@pytest.mark.timeout(180)
async def test_a_receiver_that_is_killed_again_and_again_loses_and_doubles_nothing(
    receiver: Process, node: SpoolProcess, pool: Any
) -> None:
    secured: set[str] = set()
    async with SpoolClient(node.socket, SECURE_S) as client:
        for number in range(MAILS):
            if number % 8 == 0:
                receiver.kill()
                receiver.start()
            record = kept()
            try:
                await client.secure(record, f"body of {record.id}".encode())
                secured.add(record.id)
            except NotSecured:
                continue
        rows = await found(pool, len(secured))
        await until(lambda: node.metric("syncd_spool_records") == 0, 30, "the node's spool to be empty")
    assert len(secured) >= MAILS // 2
    ids = [row["txn"] for row in rows]
    assert len(ids) == len(set(ids))
    assert secured <= set(ids)
    place = Packs(Objects((receiver.open_packs.parent / "store").as_uri()), receiver.open_packs)
    for row in rows:
        body = await place.read(row["pack"], row["pack_offset"], row["pack_bytes"])
        assert body == f"body of {row['txn']}".encode()
    assert await pool.fetchval("select sum(mails) from rollups") == len(ids)
