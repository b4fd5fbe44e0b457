"""Asking for a release: one job an item, whoever asks and however often; the sender allowed; everything audited."""

import asyncio
from itertools import product
from typing import Any

import pytest

from control.quarantine import jobs, release
from control.quarantine.release import Job
from control.store import lists
from control.store.errors import Invalid, Missing
from tests.control.quarantine.acts.conftest import ME, MINE, OPERATOR, THEY
from tests.control.quarantine.rows import at, keep, record_of


@pytest.fixture
async def item(pool: Any) -> str:
    """A kept mail of mine."""
    return (await keep(pool, record_of([("me@mine.test", MINE)])))[0]


async def _end(pool: Any, state: str) -> str:
    taken = await jobs.take(pool)
    assert taken is not None
    await jobs.end(pool, taken, state, "said so")
    return taken.id


async def test_any_number_of_clicks_from_two_people_is_one_job(pool: Any, item: str) -> None:
    clicks = [release.request(pool, viewer, item, {}) for viewer in (ME, OPERATOR) for _ in range(8)]
    made = set(await asyncio.gather(*clicks))
    assert len(made) == 1
    assert await pool.fetchval("select count(*) from jobs") == 1
    assert await pool.fetchval("select count(*) from audit where act = 'release' and object = $1", item) == 1


@pytest.mark.parametrize(
    ("state", "asked", "makes_another"),
    [
        *((state, asked, False) for state, asked in product(("queued", "running"), ("", "last", "other"))),
        *((state, asked, asked == "last") for state, asked in product(("done", "unknown"), ("", "last", "other"))),
        *(("failed", asked, True) for asked in ("", "last", "other")),
    ],
)
def test_when_asking_again_makes_another_job(state: str, asked: str, makes_another: bool) -> None:
    last = Job("J1", "item", state, "", False, "me", at(), None, None)
    assert release.repeats(last, {"": "", "last": "J1", "other": "J0"}[asked]) is makes_another


async def test_a_second_click_on_a_page_that_shows_the_end_never_delivers_twice(pool: Any, item: str) -> None:
    first = await release.request(pool, ME, item, {})
    assert await _end(pool, "done") == first
    assert await release.request(pool, ME, item, {}) == first
    again = [await release.request(pool, ME, item, {"again": first}) for _ in range(2)]
    assert again[0] == again[1] != first
    await _end(pool, "done")
    assert await release.request(pool, ME, item, {"again": first}) == again[0]


async def test_after_a_failure_it_is_tried_anew(pool: Any, item: str) -> None:
    first = await release.request(pool, ME, item, {})
    await _end(pool, "failed")
    assert await release.request(pool, ME, item, {}) != first


async def test_a_job_is_seen_by_its_account_alone(pool: Any, item: str) -> None:
    made = await release.request(pool, OPERATOR, item, {})
    for viewer in (ME, OPERATOR):
        seen = await release.job(pool, viewer, made)
        assert seen is not None
        assert (seen.state, seen.item, seen.created_by, seen.is_open) == ("queued", item, "operator", True)
    assert await release.job(pool, THEY, made) is None
    for wrong in ("", "x", "\x00", made + "0"):
        assert await release.job(pool, ME, wrong) is None


async def test_a_strangers_mail_and_none_cannot_be_released(pool: Any, item: str) -> None:
    for viewer, wrong in ((THEY, item), (ME, "0" * 26 + ".0"), (ME, "\x00")):
        with pytest.raises(Missing):
            await release.request(pool, viewer, wrong, {"allow_sender": True})
    assert await pool.fetchval("select count(*) from jobs") == 0
    assert await pool.fetchval("select count(*) from entries") == 0


async def test_the_sender_is_allowed_once(pool: Any, item: str) -> None:
    for _ in range(3):
        await release.request(pool, ME, item, {"allow_sender": True, "train": True})
    entries = await lists.listing(pool, ME, "domain", "mine.test")
    assert [(each.kind, each.match, each.expires) for each in entries] == [("allow", "ann@sender.test", None)]
    revisions = await pool.fetchval("select count(*) from history where act = 'entry added'")
    assert revisions == 1, "an entry that is there already is no new revision"
    options = await pool.fetchval("select options::text from jobs")
    assert options == '{"train": true, "allow_sender": true}'


async def test_a_denied_sender_is_allowed_instead(pool: Any, item: str) -> None:
    await lists.add(pool, ME, "domain", "mine.test", lists.Wanted("deny", "ann@sender.test"))
    await release.request(pool, ME, item, {"allow_sender": True})
    assert [each.kind for each in await lists.listing(pool, ME, "domain", "mine.test")] == ["allow"]


@pytest.mark.parametrize("sender", ["", "two words@sender.test", "x" * 80 + "@sender.test", "nobody@-"])
async def test_a_sender_that_cannot_be_on_a_list_is_said_so_and_nothing_is_queued(pool: Any, sender: str) -> None:
    item = (await keep(pool, record_of([("me@mine.test", MINE)], sender=sender)))[0]
    with pytest.raises(Invalid) as refused:
        await release.request(pool, ME, item, {"allow_sender": True})
    assert refused.value.field == "allow_sender"
    assert await pool.fetchval("select count(*) from jobs") == 0
    assert await release.request(pool, ME, item, {})


async def test_a_job_that_was_taken_over_lets_go_before_the_mail_leaves(pool: Any, item: str) -> None:
    await release.request(pool, ME, item, {})
    first = await jobs.take(pool)
    assert first is not None
    assert await jobs.recover(pool, [first.id]) == (0, 0), "what is ours is left alone"
    assert await jobs.recover(pool, []) == (1, 0)
    second = await jobs.take(pool)
    assert second is not None
    with pytest.raises(jobs.Lost):
        await jobs.sending(pool, first)
    await jobs.end(pool, first, "done", "too late")
    assert await pool.fetchval("select state from jobs") == "running"
    await jobs.sending(pool, second)
    assert await jobs.recover(pool, []) == (0, 1)
    assert await pool.fetchrow("select state, outcome from jobs") == ("unknown", jobs.CUT)


async def test_one_account_does_not_take_every_turn(pool: Any) -> None:
    """However many jobs a customer with a slow server has, the next customer's runs at once."""
    for number in range(20):
        item = (await keep(pool, record_of([(f"{number}@mine.test", MINE)])))[0]
        await release.request(pool, ME, item, {})
    theirs = (await keep(pool, record_of([("they@theirs.test", THEY.account_id or "")])))[0]
    await release.request(pool, THEY, theirs, {})
    taken = [await jobs.take(pool) for _ in range(8)]
    items = [each.item for each in taken if each]
    assert len(items) == jobs.MOST_OF_ONE_ACCOUNT + 1
    assert theirs in items
