"""The outbox in PostgreSQL as the publisher sees it: changes in order of revision, and, of each key, its last value.

Rows are written by the control plane in the transaction that makes the change, under the revision counter's lock; so
rows that can be seen have all rows of smaller revisions beside them. Superseded rows are trimmed in time; the last one
of each key stays, so that the outbox is also everything that etcd has to hold.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import asyncpg

from syncd.published import Point

CHANNEL = "outbox"
CONNECT_S = 5.0
QUERY_S = 30.0
READ_AT_ONCE = 2000

T = TypeVar("T")

_STAMP = "(extract(epoch from committed_at) * 1000000)::bigint"
_ROW = (
    f"select revision, key, value, committed_at, bulk, {_STAMP} as stamp,"
    " (select generation from revision_counter) as generation,"
    f" coalesce((select max({_STAMP}) from outbox where revision = $1), 0) as base from outbox"
)
_LAST = (
    "select distinct on (key) key, value from outbox where revision <= $1 {}order by key, revision desc, position desc"
)


class DatabaseAway(Exception):
    """PostgreSQL does not answer, or not as it should."""


@dataclass(frozen=True, slots=True)
class Row:
    """One key's change; `value` None deletes it. `bulk`: it is one of many, or brings a long list."""

    revision: int
    key: str
    value: bytes | None
    committed_at: datetime
    bulk: bool = False
    stamp: int = 0
    """`committed_at` in µs."""
    generation: int = 1
    """That of the counter when the row was read."""
    base: int = 0
    """Stamp of the revision behind which changes were asked for; 0 when that is not here."""


class Outbox:
    """One connection to it. `news` is set when a change was committed."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.news = asyncio.Event()

    async def counter(self) -> Point:
        """(generation, revision) of the last committed change. Raises DatabaseAway, like all below."""
        row = await _answer(self._connection.fetchrow("select generation, revision from revision_counter"))
        return row["generation"], row["revision"]

    async def changes(self, after: int, most: int) -> Sequence[Row]:
        """The next changes behind a revision, in order: at most so many, but the first revision whole."""
        query = _ROW + " where revision > $1 order by revision, position limit $2"
        rows = [Row(**dict(row)) for row in await _answer(self._connection.fetch(query, after, most + 1))]
        if len(rows) <= most:
            return rows
        cut = [row for row in rows if row.revision != rows[-1].revision]
        return cut or await self._revision(after, rows[0].revision)

    async def is_gapless(self, after: int, upto: int) -> bool:
        """Whether every revision behind `after` up to `upto` is still here."""
        query = "select count(distinct revision) from outbox where revision > $1 and revision <= $2"
        return bool(await _answer(self._connection.fetchval(query, after, upto)) == upto - after)

    async def stamp(self, revision: int) -> int:
        """When a revision was committed, in µs; 0 when it is not here."""
        query = f"select {_STAMP} from outbox where revision = $1 order by position desc limit 1"
        return int(await _answer(self._connection.fetchval(query, revision)) or 0)

    async def lag(self, after: int) -> int:
        """How many rows are behind a revision."""
        return int(await _answer(self._connection.fetchval("select count(*) from outbox where revision > $1", after)))

    async def truth(self, upto: int) -> AsyncIterator[tuple[str, bytes]]:
        """Every key that exists at a revision, with its value."""
        async with _mapped(), self._connection.transaction(readonly=True):
            async for row in self._connection.cursor(_LAST.format(""), upto, prefetch=READ_AT_ONCE, timeout=QUERY_S):
                if row["value"] is not None:
                    yield row["key"], row["value"]

    async def values(self, keys: Sequence[str], upto: int) -> dict[str, bytes]:
        """The values at a revision of those of these keys that exist."""
        query = _LAST.format("and key = any($2::text[]) ")
        rows = await _answer(self._connection.fetch(query, upto, list(keys)))
        return {row["key"]: row["value"] for row in rows if row["value"] is not None}

    async def shards(self, names: Sequence[str]) -> dict[str, bytes]:
        """Bodies of those of these shards that exist, by name."""
        query = "select hash, body from shards where hash = any($1::text[])"
        rows = await _answer(self._connection.fetch(query, list(names)))
        return {row["hash"]: row["body"] for row in rows}

    async def renew(self, keys: Sequence[str]) -> int:
        """Give the values these keys have a revision of their own, so that a repair is a change like any other."""
        async with _mapped(), self._connection.transaction():
            revision = await self._connection.fetchval(
                "update revision_counter set revision = revision + 1 returning revision"
            )
            await self._connection.execute(
                "insert into outbox (revision, position, key, value)"
                " select $1, row_number() over () - 1, renewed.key, last.value"
                " from unnest($2::text[]) as renewed (key) left join lateral"
                " (select value from outbox where outbox.key = renewed.key"
                " order by outbox.revision desc, position desc limit 1) as last on true",
                revision,
                list(keys),
            )
        return int(revision)

    async def trim(self, upto: int) -> None:
        """Drop rows up to a revision that were superseded up to it."""
        await _answer(
            self._connection.execute(
                "delete from outbox as old using outbox as new where new.key = old.key and new.revision > old.revision"
                " and new.revision <= $1",
                upto,
                timeout=QUERY_S,
            )
        )

    async def _revision(self, after: int, revision: int) -> Sequence[Row]:
        query = _ROW + " where revision = $2 order by position"
        return [Row(**dict(row)) for row in await _answer(self._connection.fetch(query, after, revision))]


@asynccontextmanager
async def connect(dsn: str) -> AsyncIterator[Outbox]:
    """An outbox whose `news` follows commits. Raises DatabaseAway."""
    connection = await _answer(asyncpg.connect(dsn, timeout=CONNECT_S, command_timeout=QUERY_S))
    try:
        outbox = Outbox(connection)
        connection.add_termination_listener(lambda _: outbox.news.set())
        await _answer(connection.add_listener(CHANNEL, lambda *_: outbox.news.set()))
        yield outbox
    finally:
        connection.terminate()


async def _answer(asked: Awaitable[T]) -> T:
    async with _mapped():
        return await asked


@asynccontextmanager
async def _mapped() -> AsyncIterator[None]:
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        raise DatabaseAway(f"PostgreSQL: {error or 'no answer in time'}") from error
