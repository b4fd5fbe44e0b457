"""The walk over days: their groups, what happens when time runs out on it, and days that are closed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control.quarantine import closing, counts, packs, search, walk
from control.quarantine.counts import Counts, Kind
from control.quarantine.reading import TooSlow
from control.quarantine.search import EVER, Query
from control.quarantine.terms import Span
from tests.control.quarantine.acts.conftest import ME, MINE, OPERATOR
from tests.control.quarantine.rows import at, keep, record_of

TODAY = packs.today()


def _sizes(first: int, last: int, whole: Span = EVER) -> list[int]:
    days = [TODAY + timedelta(days=number) for number in range(first, last + 1)]
    return [len(group) for group in walk.groups(days, whole)]


def test_days_ahead_are_asked_with_today_and_groups_grow() -> None:
    assert _sizes(-40, 3) == [4, 1, 2, 4, 8, 16, 9]
    assert _sizes(-3, -1) == [1, 1, 1]
    assert _sizes(0, 0) == [1]
    assert list(walk.groups([], EVER)) == list(walk.groups([], EVER, at_once=True)) == []


def test_only_days_within_the_span_are_asked_and_no_more_of_them() -> None:
    begin = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC)
    whole = Span(begin - timedelta(days=2, hours=1), begin - timedelta(hours=1))
    days = [TODAY + timedelta(days=number) for number in range(-9, 3)]
    found = [span for group in walk.groups(days, whole) for span in group]
    assert (found[0].until, found[-1].since) == (whole.until, whole.since)
    assert len(found) == 3
    assert all(span.since < span.until for span in found)
    assert list(walk.groups(days, whole, at_once=True)) == [[whole]]


async def test_a_search_that_runs_out_of_time_gives_what_it_has_and_goes_on_from_there(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds an old day's rows: a real wait, as that of a disk."""
    monkeypatch.setattr(walk, "WITHIN_S", 0.5)
    newest, oldest = [(await keep(pool, record_of([("a@mine.test", MINE)], when=at(back))))[0] for back in (0, 3)]
    async with pool.acquire() as other:
        holding = other.transaction()
        await holding.start()
        await other.execute(f"lock table quarantine_{at(3):%Y%m%d} in access exclusive mode")
        page = await search.search(pool, ME, Query(q="zebras"))
        assert [each.id for each in page.items] == [newest]
        assert page.reached
        assert page.reached > at(3)
        assert page.next
        await holding.rollback()
    rest = await search.search(pool, ME, Query(q="zebras", cursor=page.next))
    assert ([each.id for each in rest.items], rest.next, rest.reached) == ([oldest], None, None)


async def test_a_search_without_time_for_its_first_day_says_how_to_narrow_it(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "WITHIN_S", 0.3)
    async with pool.acquire() as other, other.transaction():
        await other.execute(f"lock table quarantine_{TODAY:%Y%m%d} in access exclusive mode")
        with pytest.raises(TooSlow, match="Narrow it"):
            await search.search(pool, ME, Query())
        assert await counts.reasons(pool, ME, Query(q="zebras")) == Counts({})


async def test_many_are_counted_from_the_roll_ups_and_said_to_be(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "FEW", 2)
    for _ in range(3):
        await keep(pool, record_of([("a@mine.test", MINE)]))
    await pool.execute(
        "insert into rollups select $1, number, 'kept', 'content', 7, 7 from domains where name <> 'mine2.test'", TODAY
    )
    await pool.execute("insert into rollups select '2001-01-01', number, 'kept', 'content', 7, 7 from domains")
    rolled = Counts({"content": 7}, Kind.ROLLED_UP)
    assert await counts.reasons(pool, ME, Query(domain="mine.test", reason="dnsbl")) == rolled
    assert await counts.reasons(pool, ME, Query(domain="theirs.test")) == Counts({}), "another's"
    assert await counts.reasons(pool, OPERATOR, Query()) == Counts({"content": 14}, Kind.ROLLED_UP)
    assert await counts.reasons(pool, ME, Query(q="zebras")) == Counts({"content": 3}, Kind.NEWEST)
    assert await counts.reasons(pool, ME, Query(since=at(0.001))) == Counts({"content": 3}, Kind.NEWEST)
    monkeypatch.setattr(counts, "FEW", 20)
    assert await counts.reasons(pool, ME, Query()) == Counts({"content": 3})


async def test_days_that_are_over_get_the_index_of_pieces_once(pool: Any) -> None:
    old, new = [(await keep(pool, record_of([("a@mine.test", MINE)], when=at(back))))[0] for back in (2, 0)]
    assert await closing.close(pool) > 1
    assert await closing.close(pool) == 0
    assert await pool.fetchval("select to_regclass($1) is not null", f"quarantine_{at(2):%Y%m%d}_pieces")
    assert await pool.fetchval("select to_regclass($1) is null", f"quarantine_{TODAY:%Y%m%d}_pieces")
    for typed in ("from:nn@send", "from:NN@SEND", "to:@mine.test", "to:a@mi"):
        found = await search.search(pool, ME, Query(q=typed))
        assert [each.id for each in found.items] == [new, old]
    assert (await search.search(pool, ME, Query(q="from:%"))).items == []


async def test_an_index_that_was_cut_while_it_was_made_is_made_anew(pool: Any) -> None:
    await closing.close(pool)
    index = f"quarantine_{at(2):%Y%m%d}_pieces"
    await pool.execute("update pg_index set indisvalid = false where indexrelid = to_regclass($1)", index)
    assert await closing.close(pool) == 1
    assert await pool.fetchval("select indisvalid from pg_index where indexrelid = to_regclass($1)", index)


@pytest.mark.parametrize(
    ("typed", "is_found"),
    [
        ("from:ann@sender.test", True),
        ("from:Ann", True),
        ("-from:bob", True),
        ("-from:ann", False),
        ("to:you@mine.test", True),
        ("-to:you@mine.test", False),
        ("subject:zebras", True),
        ("subject:ann", False),
        ("-subject:zebras", False),
        ("ip:192.0.2.0/24", True),
        ("ip:192.0.2.7", True),
        ("ip:2001:db8::1", False),
        ("-ip:192.0.2.0/24", False),
        ("reason:CONTENT filter:content node:MX1", True),
        ("reason:dnsbl", False),
        ("score:>-1", True),
        ("score:>0", False),
        ("size:321", True),
        ("size:>321", False),
        ("size:<=321", True),
        ("size:>999999999G", False),
        ("has:attachment", False),
        ("-has:attachment", True),
        ("is:kept", True),
        ("is:released", False),
        ("is:deleted", False),
        ("-is:released", True),
        ("after:2020-01-01 before:9999-12-31", True),
        ("before:2020-01-01", False),
        ("-before:2020-01-01", True),
        ("after:9999-12-31", False),
    ],
)
async def test_fields_over_real_rows(pool: Any, typed: str, is_found: bool) -> None:
    ids = await keep(pool, record_of([("you@mine.test", MINE)], body_bytes=321))
    found = await search.search(pool, ME, Query(q=typed))
    assert [each.id for each in found.items] == (ids if is_found else [])


async def test_the_deleted_are_found_only_when_they_are_asked_for(pool: Any) -> None:
    ids = await keep(pool, record_of([("you@mine.test", MINE)]))
    await pool.execute("update quarantine set status = 'deleted'")
    assert (await search.search(pool, ME, Query(q="zebras"))).items == []
    assert [each.id for each in (await search.search(pool, ME, Query(q="is:deleted"))).items] == ids
