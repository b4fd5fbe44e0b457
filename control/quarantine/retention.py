"""What is kept no longer: whole days, the rows of domains that keep for less, and packs that nobody points to.

A row goes when its domain's days are over, by the settings of now. Its body goes with its pack: when the class that
the pack was written for is over *and* no row points into it: a domain that keeps for longer since then loses nothing.
Mail on hold stays whatever the settings say, with its day and its pack. What was stored is remembered for ever
(`stored_ranges`), so that nothing of it comes back.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg

from control.quarantine import bin, holds, owners, packs, partitions, quota
from control.quarantine.packs import Packs
from monitoring import log

STATEMENT_WITHIN_S = 300.0
ONE_DAY = timedelta(days=1)

_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Expired:
    """What one run removed."""

    days: int
    rows: int
    packs: int


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows received before `before` go: those of `domains`, or (`is_but`) those of all others."""

    before: datetime
    domains: Collection[int]
    is_but: bool


async def expire(pool: Any, place: Packs, now: datetime) -> Expired:
    """Remove what is kept no longer; harmless again at any time, also after a run that was cut.

    Raises Away (the object store), OSError, TimeoutError and asyncpg's errors; what was done by then stays done.
    """
    async with pool.acquire() as connection:
        whose = await owners.load(connection)
        kept = whose.by_number()
        longest = max(whose.default(), *kept.values()) if kept else whose.default()
        dropped = await _drop_days(connection, now - timedelta(days=longest))
        rows = await bin.purge(connection, now)
        for rule in rules(kept, whose.default(), now):
            rows += await _delete_rows(connection, rule)
        rows += await quota.enforce(connection)
        unused = await _unused_packs(connection, now.date())
        orphans = await _orphans(connection, place, now.date())
        removed = [name for name in (*unused, *orphans) if not place.is_open(name)]
        for name in removed:
            await place.remove(name)
            await connection.execute("delete from packs where name = $1", name)
    return Expired(dropped, rows, len(removed))


def rules(kept: Mapping[int, int], default: int, now: datetime) -> Iterator[Rule]:
    """What has to go, by the days that each domain keeps; the default holds for mail of domains that are gone."""
    for days in sorted({default, *kept.values()}):
        before = now - timedelta(days=days)
        if days < default:
            yield Rule(before, [number for number, each in kept.items() if each <= days], is_but=False)
        else:
            yield Rule(before, [number for number, each in kept.items() if each > days], is_but=True)


async def _drop_days(connection: Any, before: datetime) -> int:
    dropped = 0
    for day in await partitions.days(connection):
        if _begin(day) + ONE_DAY <= before and not await holds.on_day(connection, _begin(day)):
            try:
                await partitions.drop(connection, day)
                dropped += 1
            except asyncpg.LockNotAvailableError:
                _log.info("day_in_use", day=day.isoformat())
    return dropped


async def _delete_rows(connection: Any, rule: Rule) -> int:
    """Day by day, so that no statement is long and every one can be cut."""
    deleted = 0
    for day in await partitions.days(connection):
        if (begin := _begin(day)) < rule.before:
            async with connection.transaction():
                deleted += await _delete_between(connection, begin, min(begin + ONE_DAY, rule.before), rule)
    return deleted


async def _delete_between(connection: Any, begin: datetime, end: datetime, rule: Rule) -> int:
    whose = "domain <> all($3::integer[])" if rule.is_but else "domain = any($3::integer[])"
    deleted = 0
    for table, free in (("quarantine", holds.FREE), ("messages", holds.DOMAIN_FREE)):
        done = await connection.execute(
            f"delete from {table} q where received_at >= $1 and received_at < $2 and {whose} and {free}",
            begin, end, list(rule.domains), timeout=STATEMENT_WITHIN_S,
        )  # fmt: skip
        deleted += int(done.split()[-1])
    for table in ("mail_records", "body_words") if deleted else ():
        await connection.execute(
            f"delete from {table} r where received_at >= $1 and received_at < $2 and not exists"
            " (select from quarantine q where q.received_at = r.received_at and q.txn = r.txn)",
            begin, end, timeout=STATEMENT_WITHIN_S,
        )  # fmt: skip
    return deleted


async def _unused_packs(connection: Any, on: date) -> list[str]:
    """Packs whose class is over and that no item, no waiting mail and no record that was set aside points into."""
    by_day: dict[date, list[str]] = defaultdict(list)
    for row in await connection.fetch("select name from packs where day < $1 order by name", on):
        if packs.is_over(row["name"], on):
            by_day[packs.day_of(row["name"])].append(row["name"])
    found: list[str] = []
    for day, names in by_day.items():
        used = await connection.fetch(
            # A day more on each side: mail whose time could not be believed is dated to a day's beginning.
            "select pack from quarantine where received_at >= $1 and received_at < $2 and pack = any($3)"
            " union select pack from later where state in ('waiting', 'running') and pack = any($3)"
            " union select pack from poison where pack = any($3)",
            _begin(day) - ONE_DAY, _begin(day) + 2 * ONE_DAY, names, timeout=STATEMENT_WITHIN_S,
        )  # fmt: skip
        found += sorted(set(names) - {row["pack"] for row in used})
    return found


async def _orphans(connection: Any, place: Packs, on: date) -> list[str]:
    """Stored packs of days that are over and that no table knows: all that they held was written once more elsewhere
    (after a crash between the sync of a body and the commit of its row)."""
    rows = await connection.fetch("select name from packs")
    known = {row["name"] for row in rows}
    return [name for name in await place.over(on) if name not in known]


def _begin(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
