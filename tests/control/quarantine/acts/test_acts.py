"""Deleting, blocking, restoring and taking back: once, whoever asks and however often; and who did what."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control.auth import Viewer
from control.quarantine import acts, bin, holds, items, jobs, release, rights
from control.store import domains, lists
from control.store.errors import Forbidden, Invalid, Missing, TooLate
from control.store.lists import Wanted
from syncd.layers import NextHop
from tests.control.quarantine.acts.conftest import ME, MINE, OPERATOR, THEIRS, THEY
from tests.control.quarantine.rows import keep, record_of

STAFF = Viewer("staff@mine.test", MINE, "admin", "panel")


@pytest.fixture
async def item(pool: Any) -> str:
    """A kept mail of mine."""
    return (await keep(pool, record_of([("me@mine.test", MINE), ("they@theirs.test", THEIRS)])))[0]


async def _status(pool: Any, item: str) -> str:
    status: str = await pool.fetchval("select status from quarantine where id = $1", item)
    return status


async def _entries(pool: Any) -> list[tuple[str, str]]:
    return [(each.kind, each.match) for each in await lists.listing(pool, ME, "domain", "mine.test")]


async def test_any_number_of_deletions_by_two_people_is_one_act(pool: Any, item: str) -> None:
    made = await asyncio.gather(*(acts.delete(pool, viewer, item) for viewer in (ME, OPERATOR) for _ in range(6)))
    assert len(set(made)) == 1
    assert await _status(pool, item) == "deleted"
    assert await items.get(pool, ME, item) is None
    assert (await items.get(pool, ME, item, binned=True)) is not None
    assert await pool.fetchval("select count(*) from audit where act = 'delete'") == 1
    (found,) = (await bin.listing(pool, ME)).items
    assert found.id == item
    assert (await bin.listing(pool, THEY)).items == []


async def test_what_is_taken_back_is_as_it_was_however_often(pool: Any, item: str) -> None:
    act = await acts.delete(pool, ME, item)
    for _ in range(3):
        assert (await acts.undo(pool, OPERATOR, act)).item == item
    assert await _status(pool, item) == "kept"
    again = await acts.delete(pool, ME, item)
    assert again != act
    await acts.restore(pool, ME, item)
    await acts.restore(pool, ME, item)
    assert await _status(pool, item) == "kept"


async def test_a_delivered_mail_comes_back_as_released(pool: Any, item: str) -> None:
    await release.request(pool, ME, item, {})
    taken = await jobs.take(pool)
    assert taken
    await jobs.end(pool, taken, "done", "delivered")
    await acts.delete(pool, ME, item)
    await acts.restore(pool, ME, item)
    assert await _status(pool, item) == "released"


@pytest.mark.parametrize(("breadth", "match"), [("sender", "ann@sender.test"), ("domain", "sender.test")])
async def test_block_lists_the_sender_and_deletes_and_undo_takes_both_back(
    pool: Any, item: str, breadth: Any, match: str
) -> None:
    first = await acts.block(pool, ME, item, breadth)
    assert await acts.block(pool, ME, item, breadth) == first
    assert (await _entries(pool), await _status(pool, item)) == ([("deny", match)], "deleted")
    await acts.undo(pool, ME, first)
    await acts.undo(pool, ME, first)
    assert (await _entries(pool), await _status(pool, item)) == ([], "kept")


async def test_undo_gives_a_displaced_entry_its_place_back_but_touches_no_later_one(pool: Any, item: str) -> None:
    await lists.add(pool, ME, "domain", "mine.test", Wanted("allow", "ann@sender.test", note="a friend"))
    act = await acts.block(pool, ME, item)
    await acts.undo(pool, ME, act)
    (entry,) = await lists.listing(pool, ME, "domain", "mine.test")
    assert (entry.kind, entry.note) == ("allow", "a friend")
    act = await acts.block(pool, ME, item)
    (denied,) = await lists.listing(pool, ME, "domain", "mine.test")
    await lists.remove(pool, ME, "domain", "mine.test", denied.id)
    await lists.add(pool, ME, "domain", "mine.test", Wanted("deny", "ann@sender.test", note="mine"))
    await acts.undo(pool, ME, act)
    (entry,) = await lists.listing(pool, ME, "domain", "mine.test")
    assert (entry.kind, entry.note) == ("deny", "mine")


async def test_block_that_was_cut_between_its_steps_is_completed_by_asking_again(pool: Any, item: str) -> None:
    await lists.add(pool, ME, "domain", "mine.test", Wanted("deny", "ann@sender.test"))
    await acts.block(pool, ME, item)
    assert (await _entries(pool), await _status(pool, item)) == ([("deny", "ann@sender.test")], "deleted")


async def test_a_bounce_has_no_sender_to_block_and_stays(pool: Any) -> None:
    item = (await keep(pool, record_of([("me@mine.test", MINE)], sender="")))[0]
    with pytest.raises(Invalid):
        await acts.block(pool, ME, item)
    assert await _status(pool, item) == "kept"


async def test_a_release_is_taken_back_until_it_begins(pool: Any, item: str) -> None:
    job = await release.request(pool, ME, item, {"hold_s": 5, "allow": "domain"})
    assert await jobs.take(pool) is None, "it is held"
    assert await _entries(pool) == [("allow", "sender.test")]
    shown = await release.job(pool, ME, job)
    assert shown
    assert shown.act_id
    await acts.undo(pool, ME, shown.act_id)
    assert await _entries(pool) == []
    shown = await release.job(pool, ME, job)
    assert shown
    assert shown.state == "cancelled"
    later = await release.request(pool, ME, item, {})
    assert later != job, "one that was taken back is no answer to a new click"
    assert (await jobs.take(pool)) is not None
    shown = await release.job(pool, ME, later)
    assert shown
    with pytest.raises(TooLate):
        await acts.undo(pool, ME, shown.act_id)


async def test_of_an_undo_and_a_start_one_wins(pool: Any) -> None:
    """The janitor that takes a job and the person who takes it back at the same moment never both succeed."""
    for number in range(20):
        item = (await keep(pool, record_of([(f"{number}@mine.test", MINE)])))[0]
        shown = await release.job(pool, ME, await release.request(pool, ME, item, {}))
        assert shown
        taken, undone = await asyncio.gather(jobs.take(pool), acts.undo(pool, ME, shown.act_id), return_exceptions=True)
        assert (taken is None) is not isinstance(undone, TooLate), (taken, undone)
        if taken:
            await jobs.end(pool, taken, "failed", "no")  # type: ignore[arg-type]


async def test_a_release_to_another_address_of_the_same_account(pool: Any, item: str) -> None:
    first = await release.request(pool, ME, item, {"to": "boss@mine2.test"})
    assert await release.request(pool, ME, item, {"to": "boss@MINE2.test"}) == first
    assert await release.request(pool, ME, item, {}) != first, "its own recipient is another delivery"
    assert await pool.fetchval("select recipient from jobs where id = $1", first) == "boss@mine2.test"
    for wrong in (
        "they@theirs.test",
        "x@nowhere.test",
        "no address",
        "@mine.test",
        "x y@mine.test",
        "x" * 65 + "@mine.test",
    ):
        with pytest.raises(Invalid):
            await release.request(pool, ME, item, {"to": wrong})
        with pytest.raises(Invalid):
            await release.request(pool, OPERATOR, item, {"to": wrong})
    assert await pool.fetchval("select count(*) from jobs") == 2


async def test_the_reason_decides_who_may_release(pool: Any, item: str) -> None:
    for reason, allowed in (("virus", [OPERATOR]), ("attachments", [ME, OPERATOR]), ("content", [STAFF, ME, OPERATOR])):
        await pool.execute("update quarantine set reason = $2 where id = $1", item, reason)
        for viewer in (STAFF, ME, OPERATOR):
            if viewer in allowed:
                assert await release.request(pool, viewer, item, {})
            else:
                with pytest.raises(Forbidden, match=rights.who_may(reason)):
                    await release.request(pool, viewer, item, {"allow_sender": True})
    assert await _entries(pool) == []


async def test_a_strangers_mail_cannot_be_touched(pool: Any, item: str) -> None:
    act = await acts.delete(pool, ME, item)
    for wrong in (item, "0" * 26 + ".0", "\x00", ""):
        for do in (acts.delete, acts.block, acts.restore):
            with pytest.raises(Missing):
                await do(pool, THEY, wrong)
        with pytest.raises(Missing):
            await holds.set_item(pool, THEY, wrong, True)
    for wrong in (act, "x", "\x00"):
        with pytest.raises(Missing):
            await acts.undo(pool, THEY, wrong)
    assert await _status(pool, item) == "deleted"


async def test_mail_on_hold_is_not_deleted(pool: Any, item: str) -> None:
    await holds.set_item(pool, ME, item, True)
    for do in (acts.delete, acts.block):
        with pytest.raises(Forbidden, match="on hold"):
            await do(pool, ME, item)
    assert await _entries(pool) == []
    await holds.set_item(pool, ME, item, False)
    await acts.delete(pool, ME, item)


async def test_mail_of_a_domain_on_hold_is_not_deleted(pool: Any) -> None:
    await domains.create(pool, ME, MINE, "held.test", [NextHop("127.0.0.1", 25)])
    item = (await keep(pool, record_of([("me@held.test", MINE)])))[0]
    for _ in range(2):
        assert (await holds.set_domain(pool, ME, "held.test", "a court asks")).note == "a court asks"
    with pytest.raises(Forbidden):
        await acts.delete(pool, ME, item)
    assert [each.domain for each in await holds.listing(pool, ME)] == ["held.test"]
    assert await holds.listing(pool, THEY) == []
    with pytest.raises(Missing):
        await holds.lift_domain(pool, THEY, "held.test")
    await holds.lift_domain(pool, ME, "held.test")
    await acts.delete(pool, ME, item)
    with pytest.raises(Missing):
        await holds.lift_domain(pool, ME, "held.test")


async def test_the_bin_is_emptied_after_a_week(pool: Any, item: str) -> None:
    other = (await keep(pool, record_of([("me@mine.test", MINE)])))[0]
    await acts.delete(pool, ME, item)
    now = datetime.now(UTC)
    async with pool.acquire() as connection:
        assert await bin.purge(connection, now + timedelta(days=6)) == 0
        assert await bin.purge(connection, now + timedelta(days=8)) == 1
    left = [row["id"] for row in await pool.fetch("select id from quarantine order by id")]
    assert item not in left
    assert other in left
    assert await pool.fetchval("select count(*) from mail_records where txn = $1", item[:26]) == 1, "theirs is there"
    with pytest.raises(Missing):
        await acts.restore(pool, ME, item)


async def test_who_did_what_is_on_the_item(pool: Any, item: str) -> None:
    for _ in range(3):
        await acts.viewed(pool, ME, item)
    await acts.undo(pool, ME, await acts.delete(pool, OPERATOR, item))
    await release.request(pool, ME, item, {})
    kept = await items.get(pool, ME, item)
    assert kept
    events = [(each.author, each.act) for each in await acts.history(pool, kept)]
    assert events == [
        ("me@mine.test", "release"),
        ("me@mine.test", "undo delete"),
        ("operator", "delete"),
        ("me@mine.test", "view"),
    ]
