"""Walks the days of the quarantine, newest first, until a page is full.

One statement over all days would be planned as if what is looked for were spread evenly: for a rare word PostgreSQL
then reads a domain's rows by time, all of them, instead of asking the index of words. A day at a time, each is planned
by its own figures, and a page that the newest day fills costs that day alone. Days behind it are asked in groups that
grow, so that the whole store takes few statements.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg

from control.quarantine import partitions
from control.quarantine.conditions import Where
from control.quarantine.reading import TooSlow
from control.quarantine.terms import Span

WITHIN_S = 1.0
"""For one search, all its statements together."""
LARGEST_GROUP = 16
ONE_DAY = timedelta(days=1)
_ORDER = "order by q.received_at desc, q.id desc"
# A plan for these very values (one for any values would not know the words), made for few rows: compiling it or
# starting workers takes longer than most searches do.
_SETTINGS = "set local plan_cache_mode = force_custom_plan; set local jit = off;" + (
    " set local max_parallel_workers_per_gather = 0"
)

Branches = Callable[[list[Any], Span], Sequence[Where]]
"""Makes the ways to find what fits in a span, their parameters in the one list of values."""


@dataclass(frozen=True, slots=True)
class Walked:
    """Rows, newest first, each once; `reached` is how far back was looked when the time ran out, None if it did not."""

    rows: list[Any]
    reached: datetime | None = None


async def walk(pool: Any, columns: str, branches: Branches, most: int, whole: Span, *, at_once: bool = False) -> Walked:
    """The newest `most` rows that fit. `columns` have `received_at` and `id`.

    `at_once` asks all days in one statement: where an index by time answers alone, PostgreSQL walks better than we.
    Raises TooSlow when not even the first days were done in time; asyncpg's errors when the server is away.
    """
    deadline = time.monotonic() + WITHIN_S
    found: dict[str, Any] = {}
    reached: datetime | None = None
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute(_SETTINGS)
        for group in groups(await partitions.days(connection), whole, at_once=at_once):
            try:
                rows = await _fetch(connection, *statement(columns, branches, most, group), deadline)
            except TooSlow:
                if reached is None:
                    raise
                break
            found |= {row["id"]: row for row in rows}
            reached = group[-1].since
            if len(found) >= most:
                break
        else:
            reached = None
    newest = sorted(found.values(), key=lambda row: (row["received_at"], row["id"]), reverse=True)[:most]
    return Walked(newest, None if len(newest) == most else reached)


def groups(days: Sequence[date], whole: Span, *, at_once: bool = False) -> Iterator[list[Span]]:
    """The days within a span, newest first: those of now and ahead together, then 1, 2, 4 … of those before.

    With `at_once`, all of them as one span.
    """
    spans = [span for day in reversed(days) if (span := _within(day, whole))]
    if at_once and spans:
        yield [Span(spans[-1].since, spans[0].until)]
        return
    now = datetime.now(UTC)
    first = max(1, sum(span.until > now for span in spans))
    size = 1
    while spans:
        group, spans = spans[:first], spans[first:]
        yield group
        first, size = size, min(2 * size, LARGEST_GROUP)


def statement(columns: str, branches: Branches, most: int, spans: Sequence[Span]) -> tuple[str, list[Any]]:
    """The newest `most` rows of each way and day, as SQL and its values."""
    values: list[Any] = []
    parts = [
        f"(select {columns} from quarantine q where {where.sql} {_ORDER} limit {most})"
        for span in spans
        for where in branches(values, span)
    ]
    return " union all ".join(parts), values


def _within(day: date, whole: Span) -> Span | None:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    span = Span(max(begin, whole.since), min(begin + ONE_DAY, whole.until))
    return span if span.since < span.until else None


async def _fetch(connection: Any, sql: str, values: list[Any], deadline: float) -> list[Any]:
    left = deadline - time.monotonic()
    if left < 0.001:
        raise TooSlow
    try:
        await connection.execute(f"set local statement_timeout = {max(1, int(left * 1000))}")
        rows: list[Any] = await connection.fetch(sql, *values)
    except asyncpg.QueryCanceledError as error:
        raise TooSlow from error
    return rows
