"""Tracking over a real database: found by piece, address and id; of a shared transaction only one's own."""

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from control.quarantine import tracking
from control.quarantine.tracking import Query
from syncd.spool.record import Outcome
from tests.control.quarantine.acts.conftest import ME, MINE, OPERATOR, THEIRS, THEY
from tests.control.quarantine.rows import at, keep, record_of


async def _found(pool: Any, viewer: Any = ME, **query: Any) -> list[str]:
    return [each.recipient for each in (await tracking.search(pool, viewer, Query(**query))).items]


@pytest.fixture
async def shared(pool: Any) -> str:
    """One transaction with a recipient of mine and one of theirs; returns its id."""
    record = record_of([("me@mine.test", MINE), ("they@theirs.test", THEIRS)], helo="client.sender.test", body_bytes=9)
    await keep(pool, record)
    return record.id


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, True),
        ({"q": "zebr"}, True),
        ({"q": "CHEAP ann@send"}, True),
        ({"q": "<1@sender.test>"}, True),
        ({"q": "lions"}, False),
        ({"q": "%"}, False),
        ({"sender": "@sender.test"}, True),
        ({"recipient": "me@mine.test"}, True),
        ({"recipient": "they"}, False),
        ({"outcome": "kept"}, True),
        ({"outcome": "delivered"}, False),
        ({"outcome": "nonsense"}, False),
        ({"domain": "mine.test"}, True),
        ({"domain": "theirs.test"}, False),
        ({"since": datetime(2120, 1, 1, tzinfo=UTC)}, False),
        ({"until": datetime(2020, 1, 1, tzinfo=UTC)}, False),
    ],
    ids=str,
)
async def test_mine_is_found_and_theirs_never(pool: Any, shared: str, query: dict[str, Any], found: bool) -> None:
    assert await _found(pool, **query) == (["me@mine.test"] if found else [])


async def test_it_is_found_by_its_id(pool: Any, shared: str) -> None:
    assert await _found(pool, q=shared.lower()) == await _found(pool, q=f"{shared}.1") == ["me@mine.test"]
    assert await _found(pool, THEY, q=shared) == ["they@theirs.test"]


async def test_one_transaction_shows_those_of_its_recipients_that_are_mine(pool: Any, shared: str) -> None:
    for viewer, wanted in ((ME, [0]), (THEY, [1]), (OPERATOR, [0, 1])):
        found = await tracking.find(pool, viewer, shared)
        assert found is not None
        assert [each.n for each in found.recipients] == wanted
        assert (found.client_ip, found.helo, found.size) == ("192.0.2.7", "client.sender.test", 9)
        assert all(each.judgements[0].acted for each in found.recipients)
    assert await tracking.find(pool, ME, f"{shared}.0") is not None


async def test_a_strangers_transaction_is_none(pool: Any) -> None:
    record = record_of([("they@theirs.test", THEIRS)])
    await keep(pool, record)
    assert await tracking.find(pool, ME, record.id) is None
    for wrong in ("", "x", "\x00", record.id[:-1], "0" * 26, record.id + "." + "9" * 50):
        assert await tracking.find(pool, ME, wrong) is None


async def test_unreadable_verdicts_leave_the_rest(pool: Any, shared: str) -> None:
    await pool.execute("update messages set judgements = 'garbage'")
    found = await tracking.find(pool, ME, shared)
    assert found is not None
    assert found.recipients[0].judgements == ()


async def test_pages_go_through_everything_once_newest_first(pool: Any) -> None:
    """Recipients of one transaction lie on both sides of a page's end."""
    for back in (0.1, 1, 2):
        record = record_of([(f"{n}@mine.test", MINE) for n in range(5)], when=at(back))
        outcomes = tuple(replace(each, outcome=Outcome.DELIVERED) for each in record.recipients)
        await keep(pool, replace(record, recipients=outcomes))
    seen: list[Any] = []
    cursor: str | None = None
    while True:
        page = await tracking.search(pool, ME, Query(limit=4, cursor=cursor))
        seen += page.items
        if not (cursor := page.next):
            break
    assert len({(each.id, each.n) for each in seen}) == len(seen) == 15
    assert seen == sorted(seen, key=lambda each: (each.received_at, each.id, each.n), reverse=True)


GARBAGE = st.one_of(st.none(), st.text(max_size=60), st.text("'\"%_\\-@.<>\x00\ud800 ab", max_size=30))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(typed=GARBAGE, sender=GARBAGE, outcome=GARBAGE, domain=GARBAGE, cursor=GARBAGE)
async def test_no_input_is_an_error_of_the_database(
    pool: Any, typed: Any, sender: Any, outcome: Any, domain: Any, cursor: Any
) -> None:
    with contextlib.suppress(ValueError):
        await tracking.search(pool, ME, Query(q=typed, sender=sender, recipient=sender, outcome=outcome, domain=domain))
    with contextlib.suppress(ValueError):
        await tracking.search(pool, ME, Query(q=typed, cursor=cursor))
