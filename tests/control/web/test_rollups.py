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
    assert [each.domain for each in await rollups.by_domain(panel.pool, operator, TODAY)] == [
        "theirs.test",
        "mine.test",
    ]
