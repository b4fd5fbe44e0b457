"""Days of the partitioned tables: which day a transaction belongs to, made ahead, listed, dropped.

There is no partition for everything else: it would have to be searched at each new day, and could not be dropped by
day. Instead every time is brought near enough that a day's own partition can be made for it.
"""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ulid import ULID

AHEAD_DAYS = 3
OLDEST = timedelta(days=366)
"""The longest retention a domain can choose; what came earlier would be dropped at once."""
NEWEST = timedelta(days=1)
TABLES = ("quarantine", "mail_records", "messages", "body_words")
_OF_MESSAGES = re.compile(r"messages_(\d{8})")


def received_at(txn: str, now: datetime) -> datetime:
    """When a transaction began, by its ULID, to the millisecond, in UTC. Raises ValueError for what is no ULID.

    A node whose clock is off by more than a day ahead or a year behind gives ids of times that nobody could be shown;
    such mail is dated to the day it arrives here, for the customer has to find it.
    """
    milliseconds = ULID.from_str(txn).milliseconds
    seconds = (milliseconds - int(now.timestamp() * 1000)) / 1000
    if not -OLDEST.total_seconds() <= seconds <= NEWEST.total_seconds():
        return datetime(now.year, now.month, now.day, tzinfo=UTC)
    return datetime.fromtimestamp(milliseconds // 1000, UTC) + timedelta(milliseconds=milliseconds % 1000)


def ahead(today: date) -> list[date]:
    """The days that ought to be ready: a clock a little behind, and some days in which nobody looks."""
    return [today + timedelta(days=days) for days in range(-1, AHEAD_DAYS + 1)]


async def make(connection: Any, days: Iterable[date]) -> None:
    """Have partitions for these days; harmless again. Readers and writers go on meanwhile."""
    await connection.execute("select make_partitions(day) from unnest($1::date[]) as day", sorted(days))


async def days(connection: Any) -> list[date]:
    """The days that have partitions, oldest first."""
    rows = await connection.fetch(
        "select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'messages'::regclass order by c.relname"
    )
    matches = [_OF_MESSAGES.fullmatch(row["name"]) for row in rows]
    return [datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=UTC).date() for match in matches if match]


async def drop(connection: Any, day: date) -> None:
    """Have no rows of this day. Waits briefly for whoever reads them, else raises asyncpg's LockNotAvailableError."""
    async with connection.transaction():
        await connection.execute("set local lock_timeout = '3s'")
        await connection.execute("select pg_advisory_xact_lock(hashtextextended('partitions', 0))")
        for table in TABLES:
            await connection.execute(f"drop table if exists {table}_{day:%Y%m%d}")
