"""An ingest over a real, migrated PostgreSQL, with packs on the disk."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from control.quarantine.ingest import Ingest
from control.quarantine.objects import Objects
from control.quarantine.pack_writer import PackWriter
from control.quarantine.packs import Packs
from control.quarantine.session import Session
from control.store import migrate
from tests.control.quarantine.intake.held import ACCOUNT, DOMAIN, THEIRS, Journal


@dataclass
class Intake:
    """An ingest with what it stands on."""

    ingest: Ingest
    session: Session
    packs: Packs
    pool: Any
    journal: Journal

    async def count(self, table: str, where: str = "true") -> int:
        """Rows of a table."""
        found: int = await self.pool.fetchval(f"select count(*) from {table} where {where}")
        return found

    async def body(self, row: Any) -> bytes:
        """The mail that a row points to."""
        return await self.packs.read(row["pack"], row["pack_offset"], row["pack_bytes"])

    async def figures_add_up(self) -> None:
        """Roll-ups are the tracking's rows, counted."""
        counted = await self.pool.fetch(
            "select (received_at at time zone 'utc')::date as day, domain, outcome, reason, count(*) as mails,"
            " sum(size_bytes)::bigint as bytes from messages group by 1, 2, 3, 4 order by 1, 2, 3, 4"
        )
        rolled = await self.pool.fetch("select * from rollups order by day, domain, outcome, reason")
        assert [tuple(row) for row in rolled] == [tuple(row) for row in counted]


async def prepare(database: str) -> None:
    """The schema, two accounts and a domain each."""
    connection = await asyncpg.connect(database)
    try:
        await migrate.apply(connection)
        for account, domain in ((ACCOUNT, DOMAIN), (THEIRS, "theirs.test")):
            await connection.execute("insert into accounts (id, name) values ($1, $1)", account)
            await connection.execute(
                "insert into domains (name, account_id, next_hops) values ($1, $2, '[]')", domain, account
            )
    finally:
        await connection.close()


@pytest.fixture
def place(tmp_path: Path) -> Packs:
    """Packs with a directory for an object store."""
    return Packs(Objects((tmp_path / "store").as_uri()), tmp_path / "open")


@pytest.fixture
def writer(place: Packs) -> Iterator[PackWriter]:
    """The one writer of those packs."""
    made = PackWriter(place)
    yield made
    made.close()


@pytest.fixture
async def intake(database: str, writer: PackWriter, place: Packs, tmp_path: Path) -> AsyncIterator[Intake]:
    """An ingest that has stored nothing yet."""
    await prepare(database)
    session = Session(database)
    async with asyncpg.create_pool(database, min_size=1, max_size=4) as pool:
        yield Intake(Ingest(session, writer), session, place, pool, Journal(tmp_path / "journal"))
    session.close()
