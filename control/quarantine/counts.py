"""How many kept mails there are for each reason: exact where they are few, from the roll-ups or a sample where many."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any

from control.auth import Viewer
from control.quarantine.conditions import Where
from control.quarantine.reading import TooSlow, rows
from control.quarantine.search import Query, walk_query

FEW = 2_000
"""As many are counted one by one."""
ROLLED_WITHIN_S = 1.0


class Kind(Enum):
    """What the numbers are."""

    EXACT = "exact"
    ROLLED_UP = "rolled_up"
    """All that were ever kept in these days: what was deleted since is counted too."""
    NEWEST = "newest"
    """Of the newest `FEW` that fit; there are more."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Mails by reason, the most first."""

    by_reason: dict[str, int]
    kind: Kind = Kind.EXACT


async def reasons(pool: Any, viewer: Viewer, query: Query) -> Counts:
    """How much of what fits was kept for each reason, whatever reason the query names; none if counting takes too long.

    Raises ValueError as `control.quarantine.search.search` does.
    """
    query = replace(query, reason=None, cursor=None)
    try:
        if _is_rolled_up(query) and (rolled := await _rolled_up(pool, viewer, query)).total() > FEW:
            return Counts(_sorted(rolled), Kind.ROLLED_UP)
        found = await walk_query(pool, viewer, query, "q.id, q.received_at, q.reason", FEW + 1)
    except TooSlow:
        return Counts({})
    kind = Kind.EXACT if len(found.rows) <= FEW and found.reached is None else Kind.NEWEST
    return Counts(_sorted(Counter(row["reason"] for row in found.rows)), kind)


def _is_rolled_up(query: Query) -> bool:
    """Whether domain and whole days are all that is asked."""
    edges = [each.astimezone(UTC) for each in (query.since, query.until) if each is not None]
    at_midnight = all(each.time() == datetime.min.time() for each in edges)
    return at_midnight and not (query.sender or query.recipient or (query.q or "").strip())


async def _rolled_up(pool: Any, viewer: Viewer, query: Query) -> Counter[str]:
    where = Where()
    where.add("outcome = 'kept'")
    if query.domain is not None:
        where.scope(replace(viewer, account_id=None), query.domain)
    if viewer.account_id is not None:
        where.add("domain in (select number from domains where account_id = {})", viewer.account_id)
    where.add("day >= {}", _day(query.since) if query.since else date(1, 1, 1))
    where.add("day < {}", _day(query.until) if query.until else date(9999, 12, 31))
    # The roll-ups outlive the days themselves.
    where.add_sql("to_regclass('quarantine_' || to_char(day, 'YYYYMMDD')) is not null")
    table = "rollup_totals" if query.domain is None and viewer.account_id is None else "rollups"
    sql = f"select reason, sum(mails)::bigint as mails from {table} where {where.sql} group by reason"
    found = await rows(pool, sql, where.values, within_s=ROLLED_WITHIN_S)
    return Counter({row["reason"]: row["mails"] for row in found})


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def _sorted(counted: Counter[str]) -> dict[str, int]:
    return dict(sorted(counted.items(), key=lambda each: (-each[1], each[0])))
