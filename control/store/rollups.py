"""Counts a day by domain and outcome, from the rollups that ingest keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import msgspec

from control.auth import Viewer

_OF_ALL = (
    "select day, outcome, sum(mails)::bigint as mails from rollup_totals where day > $1 and day <= $2"
    " group by day, outcome"
)
_OF_ACCOUNT = (
    "select r.day, r.outcome, sum(r.mails)::bigint as mails from rollups r join domains d on d.number = r.domain"
    " where r.day > $1 and r.day <= $2 and d.account_id = $3 group by r.day, r.outcome"
)
OUTCOMES = ("delivered", "kept", "later", "refused", "deferred", "abandoned")


@dataclass(frozen=True, slots=True)
class DomainDay:
    """Recipients of one domain on one day by outcome; outcomes that did not happen are 0."""

    domain: str
    counts: Mapping[str, int]


async def by_day(pool: Any, viewer: Viewer, last: date, days: int) -> dict[date, dict[str, int]]:
    """Recipients by outcome for each of the `days` days that end with `last`, all of the viewer's domains together.

    The operator's are of all mail that was for a domain served then, domains that have left since included.
    """
    span = last - timedelta(days=days), last
    if viewer.account_id is None:
        rows = await pool.fetch(_OF_ALL, *span)
    else:
        rows = await pool.fetch(_OF_ACCOUNT, *span, viewer.account_id)
    found = {last - timedelta(days=back): dict.fromkeys(OUTCOMES, 0) for back in reversed(range(days))}
    for row in rows:
        found[row["day"]][row["outcome"]] = row["mails"]
    return found


async def by_domain(pool: Any, viewer: Viewer, day: date, limit: int = 100) -> list[DomainDay]:
    """One day of each of the viewer's domains, the busiest first; domains without mail are there too."""
    rows = await pool.fetch(
        "select d.name, jsonb_object_agg(coalesce(r.outcome, ''), coalesce(r.mails, 0))::text as counts"
        " from domains d left join (select domain, outcome, sum(mails)::bigint as mails from rollups where day = $1"
        " group by domain, outcome) r on r.domain = d.number where ($2::text is null or d.account_id = $2)"
        " group by d.name order by sum(coalesce(r.mails, 0)) desc, d.name limit $3",
        day,
        viewer.account_id,
        limit,
    )
    return [DomainDay(row["name"], _counts(row["counts"])) for row in rows]


def _counts(found: str) -> dict[str, int]:
    counts = msgspec.json.decode(found)
    return {outcome: int(counts.get(outcome, 0)) for outcome in OUTCOMES}
