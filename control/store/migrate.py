"""`python -m control migrate`: brings a database to this checkout's schema by numbered files of plain SQL.

Each file runs once, in a transaction of its own together with its row in `migrations`; an advisory lock lets only one
migration run at a time. A file that was applied and has changed since is an error, as is a database that is newer than
the checkout: both would otherwise end in a schema that nobody has ever tested.
"""

import asyncio
import hashlib
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from syncd.config import Control

DIRECTORY = Path(__file__).with_name("migrations")
LOCK = "select pg_advisory_lock(hashtextextended('migrations', 0))"
UNLOCK = "select pg_advisory_unlock(hashtextextended('migrations', 0))"
TABLE = (
    "create table if not exists migrations (number integer primary key, name text not null, checksum text not null,"
    " applied_at timestamptz not null default now())"
)
START_WITHIN_S = 20.0
"""A server that has just been started says for some seconds that it is starting."""
RETRY_S = 0.2
WITHIN_S = 600.0
"""For one file, or for another migration to end."""


class Unmigratable(Exception):
    """The database and the files do not fit together, or the database cannot be had; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: NNNN_name.sql."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def run(settings: Control, *, metrics_port: int) -> None:
    """Migrate and print what was done. Ends the process with 1 and a sentence when it cannot be done."""
    try:
        done = asyncio.run(_run(settings.database))
    except Unmigratable as error:
        sys.exit(f"migrate: {error}")
    for migration in done:
        print(f"applied {migration.name}")
    if not done:
        print("nothing to do: the schema is up to date")


def files(directory: Path = DIRECTORY) -> list[Migration]:
    """The migrations of a directory in their order. Raises Unmigratable for a name or number out of place."""
    found = [_file(path) for path in sorted(directory.glob("*.sql"))]
    for expected, migration in enumerate(found, 1):
        if migration.number != expected:
            raise Unmigratable(f"{migration.name}: number {expected:04} was expected here; rename the file")
    return found


async def plan(connection: Any, directory: Path = DIRECTORY) -> list[Migration]:
    """What `apply` would run on this database, changing nothing. Raises Unmigratable."""
    if await connection.fetchval("select to_regclass('migrations') is null"):
        return files(directory)
    rows = await connection.fetch("select number, name, checksum from migrations order by number")
    return pending(files(directory), [(row["number"], row["name"], row["checksum"]) for row in rows])


def pending(migrations: Sequence[Migration], applied: Sequence[tuple[int, str, str]]) -> list[Migration]:
    """The migrations behind those that were applied, as (number, name, checksum). Raises Unmigratable."""
    by_number = {migration.number: migration for migration in migrations}
    for number, name, checksum in applied:
        migration = by_number.pop(number, None)
        if migration is None:
            raise Unmigratable(f"the database has {name} applied, which this checkout does not know: use a newer one")
        if migration.checksum != checksum:
            raise Unmigratable(
                f"{migration.name} was changed after it had been applied: put its old text back"
                " and write what is new into a file with the next number"
            )
    return [by_number[number] for number in sorted(by_number)]


async def apply(connection: Any, directory: Path = DIRECTORY) -> list[Migration]:
    """Run what is missing, one transaction a file; returns what was run. Raises Unmigratable, or asyncpg's errors."""
    await connection.execute(LOCK, timeout=WITHIN_S)
    try:
        await connection.execute(TABLE)
        missing = await plan(connection, directory)
        for migration in missing:
            await _apply(connection, migration)
        return missing
    finally:
        await connection.execute(UNLOCK)


async def _apply(connection: Any, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql, timeout=WITHIN_S)
            await connection.execute(
                "insert into migrations (number, name, checksum) values ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
    except (asyncpg.SyntaxOrAccessError, asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
        raise Unmigratable(
            f"{migration.name} does not run on this database, nothing of it was kept: {error}"
        ) from error


async def _run(database: str) -> list[Migration]:
    connection = await _connected(database)
    try:
        return await apply(connection)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unmigratable(f"the database did not take it, run it again: {error or type(error).__name__}") from error
    finally:
        connection.terminate()


async def _connected(database: str) -> Any:
    """A connection, however short a time ago the server was started. Raises Unmigratable."""
    deadline = time.monotonic() + START_WITHIN_S
    while True:
        try:
            return await asyncpg.connect(database, timeout=max(1.0, deadline - time.monotonic()))
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError) as error:
            if time.monotonic() > deadline:
                why = str(error) or type(error).__name__
                raise Unmigratable(f"no database for {START_WITHIN_S:.0f} s, is PostgreSQL up? {why}") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise Unmigratable(f"the database of the configuration cannot be used: {error}") from error
        await asyncio.sleep(RETRY_S)


def _file(path: Path) -> Migration:
    match = re.fullmatch(r"(\d{4})_\w+\.sql", path.name)
    if match is None:
        raise Unmigratable(f"{path.name}: migrations are named NNNN_what.sql")
    return Migration(int(match[1]), path.name, path.read_text())
