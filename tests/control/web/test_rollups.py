"""Counts a day: every outcome, only the viewer's domains, days without mail at 0."""

from datetime import date
from typing import Any

from control.auth import Viewer
from control.store import rollups
from tests.control.web.conftest import Panel

TODAY = date(2026, 11, 24)


async def _count(pool: Any, domain: str, day: date, outcome: str, reason: str, mails: int) -> None:
    number = await pool.fetchval("select number from domains where name = $1", domain)
    await pool.execute("insert into rollups values ($1, $2, $3, $4, $5, 0)", day, number, outcome, reason, mails)


async def test_days_and_domains_add_up_and_show_nothing_of_others(panel: Panel) -> None:
    await _count(panel.pool, "mine.test", TODAY, "kept", "content", 3)
    await _count(panel.pool, "mine.test", TODAY, "kept", "spf", 2)
    await _count(panel.pool, "mine.test", date(2026, 11, 20), "delivered", "", 7)
    await _count(panel.pool, "theirs.test", TODAY, "kept", "spf", 100)
    days = await rollups.by_day(panel.pool, panel.viewer, TODAY, 5)
    assert list(days) == [date(2026, 11, day) for day in (20, 21, 22, 23, 24)]
    assert days[TODAY]["kept"] == 5
    assert days[date(2026, 11, 20)]["delivered"] == 7
    assert sum(days[date(2026, 11, 21)].values()) == 0
    (mine,) = await rollups.by_domain(panel.pool, panel.viewer, TODAY)
    assert (mine.domain, mine.counts["kept"], mine.counts["delivered"]) == ("mine.test", 5, 0)
    operator = Viewer("op", None, "operator", "panel")
    of_all = await rollups.by_day(panel.pool, operator, TODAY, 5)
    assert [(day["kept"], day["delivered"]) for day in of_all.values()] == [(0, 7), (0, 0), (0, 0), (0, 0), (105, 0)]
    assert [each.domain for each in await rollups.by_domain(panel.pool, operator, TODAY)] == [
        "theirs.test",
        "mine.test",
    ]


async def test_totals_are_the_roll_ups_added_up_whatever_is_written(panel: Panel) -> None:
    upsert = (
        "insert into rollups as r select $1, number, 'kept', reason, mails, mails from domains,"
        " unnest($2::text[], $3::bigint[]) as given (reason, mails)"
        " on conflict (day, domain, outcome, reason)"
        " do update set mails = r.mails + excluded.mails, bytes = r.bytes + excluded.bytes"
    )
    await panel.pool.execute(upsert, TODAY, ["spf", "content"], [3, 4])
    await panel.pool.execute(upsert, TODAY, ["spf", "dnsbl"], [-1, 5])
    await panel.pool.execute("insert into rollups values ($1, 0, 'refused', 'relaying', 9, 9)", TODAY)
    summed = await panel.pool.fetch(
        "select day, outcome, reason, sum(mails)::bigint as mails, sum(bytes)::bigint as bytes from rollups"
        " where domain <> 0 group by 1, 2, 3 order by 1, 2, 3"
    )
    assert summed == await panel.pool.fetch("select * from rollup_totals order by 1, 2, 3")
    assert len(summed) == 3
