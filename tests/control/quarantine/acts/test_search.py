"""The search of kept mail over a real database: words, addresses, pages, other people's mail, and any garbage."""

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from control.quarantine import counts, pages, reading, search, walk
from control.quarantine.counts import Counts
from control.quarantine.search import Query
from tests.control.quarantine.acts.conftest import ME, MINE, OPERATOR, THEIRS, THEY
from tests.control.quarantine.rows import at, keep, record_of


async def _ids(pool: Any, viewer: Any = ME, **query: Any) -> list[str]:
    page = await search.search(pool, viewer, Query(**query))
    return [each.id for each in page.items]


@pytest.fixture
async def zebra(pool: Any) -> str:
    """One kept mail of mine."""
    record = record_of([("You@mine.test", MINE)], subject="Cheap zebras, 50% off: zq123", body_bytes=321)
    return (await keep(pool, record))[0]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"q": "zebras"},
        {"q": "ZEBRAS cheap"},
        {"q": "zeb*"},
        {"q": '"cheap zebras"'},
        {"q": "zebras -lions"},
        {"q": "zq123"},
        {"q": "50%"},
        {"q": "ann@sender.test"},
        {"q": "sender.test"},
        {"q": "you@mine.test"},
        {"q": "-lions"},
        {"sender": "ann@sender.test"},
        {"sender": "ANN@Sender.test"},
        {"sender": "@sender.test"},
        {"sender": "n@send"},
        {"recipient": "you@mine.test"},
        {"recipient": "you"},
        {"reason": "content"},
        {"domain": "mine.test"},
        {"domain": "MINE.test."},
        {"since": datetime(2020, 1, 1, tzinfo=UTC), "until": datetime(2120, 1, 1, tzinfo=UTC)},
    ],
    ids=str,
)
async def test_it_is_found_by(pool: Any, zebra: str, query: dict[str, Any]) -> None:
    assert await _ids(pool, **query) == [zebra]


@pytest.mark.parametrize(
    "query",
    [
        {"q": "lions"},
        {"q": "zebra"},
        {"q": '"zebras cheap"'},
        {"q": "cheap -zebras"},
        {"q": "..."},
        {"sender": "nn@sender.test"},
        {"sender": "@ender.test"},
        {"sender": "<>"},
        {"sender": "%"},
        {"sender": "a_n"},
        {"recipient": "@theirs.test"},
        {"reason": "dnsbl"},
        {"domain": "theirs.test"},
        {"domain": "mine2.test"},
        {"domain": "no domain at all"},
        {"since": datetime(2120, 1, 1, tzinfo=UTC)},
        {"until": datetime(2020, 1, 1, tzinfo=UTC)},
    ],
    ids=str,
)
async def test_it_is_not_found_by(pool: Any, zebra: str, query: dict[str, Any]) -> None:
    assert await _ids(pool, **query) == []


async def test_it_is_found_by_its_id_and_by_that_of_its_transaction(pool: Any, zebra: str) -> None:
    assert await _ids(pool, q=zebra) == await _ids(pool, q=f" {zebra[:26].lower()} ") == [zebra]
    assert await _ids(pool, THEY, q=zebra) == []


async def test_a_bounce_is_found_by_its_empty_sender(pool: Any) -> None:
    bounce = (await keep(pool, record_of([("a@mine.test", MINE)], sender="")))[0]
    await keep(pool, record_of([("a@mine.test", MINE)]))
    assert await _ids(pool, sender="<>") == [bounce]


async def test_a_row_has_what_lists_show(pool: Any, zebra: str) -> None:
    item = (await search.search(pool, ME, Query())).items[0]
    assert (item.sender, item.recipient, item.reason, item.filter) == (
        "ann@sender.test",
        "You@mine.test",
        "content",
        "content",
    )
    assert (item.size, item.node, item.status, item.received_at.tzinfo) == (321, "mx1", "kept", UTC)


async def test_everybody_finds_only_their_own(pool: Any) -> None:
    mine, theirs = await keep(pool, record_of([("a@mine.test", MINE), ("b@theirs.test", THEIRS)]))
    for query in ({}, {"q": "zebras"}, {"sender": "ann"}, {"domain": "theirs.test"}, {"q": theirs}):
        assert theirs not in await _ids(pool, **query)
    assert await _ids(pool, THEY) == [theirs]
    assert set(await _ids(pool, OPERATOR)) == {mine, theirs}
    assert await _ids(pool, OPERATOR, domain="theirs.test") == [theirs]
    assert await counts.reasons(pool, THEY, Query()) == Counts({"content": 1})


async def test_what_was_deleted_is_not_found(pool: Any, zebra: str) -> None:
    await pool.execute("update quarantine set status = 'deleted'")
    assert await _ids(pool) == []
    assert await counts.reasons(pool, ME, Query()) == Counts({})


async def test_pages_go_through_everything_once_newest_first(pool: Any) -> None:
    """Over days, and with many rows of the very same time, while newer mail comes in."""
    same = at(1)
    kept = [await keep(pool, record_of([("a@mine.test", MINE)], when=at(back))) for back in (0.01, 2, 3, 0.02)]
    kept += [await keep(pool, record_of([("a@mine.test", MINE)], when=same)) for _ in range(7)]
    seen: list[Any] = []
    cursor: str | None = None
    while True:
        page = await search.search(pool, ME, Query(limit=3, cursor=cursor))
        seen += page.items
        await keep(pool, record_of([("a@mine.test", MINE)]))
        if not (cursor := page.next):
            break
    assert sorted(each.id for each in seen) == sorted(each[0] for each in kept)
    assert seen == sorted(seen, key=lambda each: (each.received_at, each.id), reverse=True)


async def test_reasons_are_counted_for_the_search_whatever_reason_is_chosen(pool: Any) -> None:
    for reason in ("content", "dnsbl", "dnsbl"):
        record = record_of([("a@mine.test", MINE)])
        result = replace(record.recipients[0], reason=reason)
        await keep(pool, replace(record, recipients=(result,)))
    await keep(pool, record_of([("a@mine.test", MINE)], subject="other"))
    found = await counts.reasons(pool, ME, Query(q="zebras", reason="content"))
    assert found == Counts({"dnsbl": 2, "content": 1})


async def test_a_search_that_takes_too_long_says_how_to_narrow_it(pool: Any) -> None:
    with pytest.raises(ValueError, match="Narrow it"):
        await reading.rows(pool, "select pg_sleep(5)", [], within_s=0.05)
    assert await reading.rows(pool, "select 1 as one", []), "the connection is as good as before"


async def test_old_days_stay_untouched(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search of a span, and the page behind a cursor, plan no other day's partition, of rows and bodies alike."""
    plans: list[str] = []

    async def explained(connection: Any, sql: str, values: list[Any], deadline: float) -> list[Any]:
        plans.append("\n".join(row[0] for row in await connection.fetch("explain " + sql, *values)))
        return []

    monkeypatch.setattr(walk, "_fetch", explained)
    today = at().replace(hour=0, minute=0, second=0, microsecond=0)
    await search.search(pool, ME, Query(since=today, until=today + timedelta(days=1), q="zebras -lions body:x"))
    assert f"quarantine_{today:%Y%m%d}" in plans[0]
    assert f"body_words_{today:%Y%m%d}" in plans[0]
    assert f"_{at(1):%Y%m%d}" not in "".join(plans)
    plans.clear()
    await search.search(pool, ME, Query(cursor=pages.cursor(pages.Place(at(4), "X"))))
    assert f"quarantine_{at(4):%Y%m%d}" in plans[0]
    assert f"quarantine_{at(1):%Y%m%d}" not in "".join(plans)


@pytest.mark.parametrize(
    "cursor", ["x", "!!", "ä", "MTIz", "A" * 5000, "OTk5OTk5OTk5OTk5OTk5OTk5LmE", "LTEuYQ", "\x00"]
)
async def test_a_cursor_that_is_none_is_refused_in_words(pool: Any, cursor: str) -> None:
    with pytest.raises(ValueError, match="none of ours"):
        await search.search(pool, ME, Query(cursor=cursor))


GARBAGE = st.one_of(
    st.none(), st.text(max_size=60), st.text("'\"&|!<->:*()\\%_-@.\x00\ud800 ab9", max_size=40), st.just("a" * 10_000)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(typed=GARBAGE, sender=GARBAGE, recipient=GARBAGE, reason=GARBAGE, domain=GARBAGE, cursor=GARBAGE)
async def test_no_input_is_an_error_of_the_database(
    pool: Any, typed: Any, sender: Any, recipient: Any, reason: Any, domain: Any, cursor: Any
) -> None:
    """Anything typed into any field has an answer, or is refused in words."""
    query = Query(q=typed, sender=sender, recipient=recipient, reason=reason, domain=domain)
    await _never_an_sql_error(pool, query)
    await _never_an_sql_error(pool, Query(q=typed, cursor=cursor))


async def _never_an_sql_error(pool: Any, query: Query) -> None:
    with contextlib.suppress(ValueError):
        await search.search(pool, ME, query)
        await counts.reasons(pool, ME, query)
