"""Acts over a whole search: exact to the item, cut at any point, cancelled, resumed, undone."""

import asyncio
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ulid import ULID

from control.auth import Viewer
from control.quarantine import acts, bulk, holds, jobs, release
from control.quarantine.bulk_steps import Stepping
from control.quarantine.search import Query
from control.store.errors import Invalid, Missing, TooLate
from tests.control.quarantine.acts.conftest import ME, MINE, OPERATOR, THEY
from tests.control.quarantine.rows import keep, record_of

MANY = 1_200
"""More than a page of the list and more than a slice of an act."""
_ROWS = """
insert into quarantine (received_at, id, txn, domain, account_id, sender, recipient, subject, header_from, reason,
 filter, reason_text, score, node, client_ip, size_bytes, generation, revision, pack, pack_offset, pack_bytes,
 body_sha256, words)
select at, id, left(id, 26), d.number, d.account_id, 'ann@sender.test', 'me@' || d.name, 'Cheap zebras', '', 'content',
 'content', '', 0, 'mx1', '192.0.2.7', 1000, 1, 1, '', 0, 0, '', header_words('cheap zebras')
from unnest($1::timestamptz[], $2::text[]) as k (at, id), domains d where d.name = $3
"""


async def many(pool: Any, count: int, domain: str = "mine.test") -> list[str]:
    """So many kept mails, a millisecond apart, newest first."""
    newest = datetime.now(UTC) - timedelta(seconds=2)
    times = [newest - timedelta(milliseconds=n) for n in range(count)]
    ids = [f"{ULID.from_datetime(at)}.0" for at in times]
    await pool.execute(_ROWS, times, ids, domain)
    return ids


async def finish(pool: Any, steps: int = 10_000) -> None:
    """What the janitor does until nothing is left, or so many steps of it."""
    stepping = Stepping(pool)
    for _ in range(steps):
        if not await stepping.one():
            return


async def statuses(pool: Any) -> dict[str, int]:
    """Mails by status."""
    rows = await pool.fetch("select status, count(*) as mails from quarantine group by 1")
    return {row["status"]: row["mails"] for row in rows}


def asked(**fields: Any) -> Query:
    """My domain's mail."""
    return Query(domain="mine.test", **fields)


async def test_it_is_counted_before_and_exact_after(pool: Any) -> None:
    await many(pool, MANY)
    await many(pool, 7, "theirs.test")
    assert await bulk.preview(pool, ME, asked(q="zebras")) == bulk.Preview(MANY, True)
    act = await bulk.begin(pool, ME, "delete", query=asked(q="zebras"))
    await many(pool, 5, "mine2.test")
    await finish(pool)
    found = await bulk.get(pool, ME, act)
    assert (found.state, found.total, found.counts) == ("done", MANY, {"done": MANY})
    assert await statuses(pool) == {"deleted": MANY, "kept": 12}
    assert await pool.fetchval("select count(*) from audit where act = 'delete'") == MANY


async def test_a_preview_of_more_than_it_counts_says_so(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PREVIEW_PAGES", 2)
    await many(pool, MANY)
    assert await bulk.preview(pool, ME, asked()) == bulk.Preview(1_000, False)


async def test_mail_that_comes_after_the_click_is_not_meant(pool: Any) -> None:
    await many(pool, 3)
    act = await bulk.begin(pool, ME, "delete", query=asked())
    new = (await keep(pool, record_of([("me@mine.test", MINE)], when=datetime.now(UTC) + timedelta(seconds=30))))[0]
    await finish(pool)
    assert (await bulk.get(pool, ME, act)).counts == {"done": 3}
    assert await pool.fetchval("select status from quarantine where id = $1", new) == "kept"


async def test_cancelled_and_resumed_at_every_step_it_is_exact(pool: Any) -> None:
    await many(pool, MANY)
    act = await bulk.begin(pool, ME, "delete", query=asked())
    for _ in range(8):
        await finish(pool, 1)
        await bulk.cancel(pool, ME, act)
        before = await statuses(pool)
        await finish(pool)
        assert await statuses(pool) == before, "what is cancelled stands still"
        if (await bulk.get(pool, ME, act)).state == "cancelled":
            await bulk.resume(pool, ME, act)
    await finish(pool)
    found = await bulk.get(pool, ME, act)
    assert (found.state, found.counts) == ("done", {"done": MANY})
    assert await statuses(pool) == {"deleted": MANY}


async def test_steps_that_are_cut_repeat_and_lose_nothing(pool: Any) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    await many(pool, MANY)
    act = await bulk.begin(pool, ME, "delete", query=asked())
    for _ in range(12):
        cut = asyncio.create_task(finish(pool))
        await asyncio.wait([cut], timeout=chance.uniform(0, 0.08))  # the point of time is what is tried
        cut.cancel()
        await asyncio.gather(cut, return_exceptions=True)
    await finish(pool)
    found = await bulk.get(pool, ME, act)
    assert (found.state, found.counts) == ("done", {"done": MANY})
    assert await pool.fetchval("select count(distinct object) from audit where act = 'delete'") == MANY
    assert await pool.fetchval("select count(*) from audit where act = 'delete'") == MANY


async def test_two_janitors_do_each_item_once(pool: Any) -> None:
    await many(pool, MANY)
    act = await bulk.begin(pool, ME, "delete", query=asked())
    for _ in range(40):
        await asyncio.gather(*(finish(pool, 1) for _ in range(3)))
    assert (await bulk.get(pool, ME, act)).counts == {"done": MANY}
    assert await pool.fetchval("select count(*) from audit where act = 'delete'") == MANY


async def test_undo_restores_what_it_deleted_and_nothing_else(pool: Any) -> None:
    ids = await many(pool, MANY)
    await acts.delete(pool, ME, ids[5])
    act = await bulk.begin(pool, ME, "delete", chosen=ids[:20])
    await finish(pool)
    assert (await bulk.get(pool, ME, act)).counts == {"done": 19, "same": 1}
    for _ in range(2):
        await bulk.undo(pool, ME, act)
        await finish(pool)
    found = await bulk.get(pool, ME, act)
    assert (found.state, found.counts) == ("undone", {"undone": 19, "same": 1})
    assert await statuses(pool) == {"deleted": 1, "kept": MANY - 1}


async def test_all_of_the_bin_is_restored(pool: Any) -> None:
    await many(pool, 30)
    await bulk.begin(pool, ME, "delete", query=asked())
    await finish(pool)
    await bulk.begin(pool, ME, "restore", query=asked())
    await finish(pool)
    assert await statuses(pool) == {"kept": 30}


async def test_mail_on_hold_fails_alone_and_is_named(pool: Any) -> None:
    ids = await many(pool, 10)
    await holds.set_item(pool, ME, ids[3], True)
    act = await bulk.begin(pool, ME, "delete", query=asked())
    await finish(pool)
    found = await bulk.get(pool, ME, act)
    assert found.counts == {"done": 9, "failed": 1}
    assert [(each.item, each.reason) for each in found.failures] == [(ids[3], "it is on hold")]


async def _deliver(pool: Any, state: str = "done", most: int = 10_000) -> list[str]:
    """End what may run as a janitor would; the items."""
    items = []
    while len(items) < most and (taken := await jobs.take(pool)):
        await jobs.end(pool, taken, state, "said so")
        items.append(taken.item)
    return items


async def test_each_mail_is_released_once_whoever_asked_before(pool: Any) -> None:
    ids = await many(pool, 700)
    await release.request(pool, ME, ids[0], {})
    await _deliver(pool)
    open_one = await release.request(pool, ME, ids[1], {})
    act = await bulk.begin(pool, ME, "release", query=asked())
    delivered: list[str] = []
    for _ in range(20):
        await finish(pool, 3)
        delivered += await _deliver(pool)
    found = await bulk.get(pool, ME, act)
    assert (found.state, found.counts) == ("done", {"done": 698, "same": 2})
    assert sorted(delivered) == sorted(ids[1:]), "each once, the one that was open by its own job"
    assert open_one
    with pytest.raises(TooLate):
        await bulk.undo(pool, ME, act)


async def test_a_release_by_hand_goes_before_those_of_a_search(pool: Any) -> None:
    ids = await many(pool, 50)
    await bulk.begin(pool, ME, "release", chosen=ids[1:])
    await finish(pool, 1)
    await release.request(pool, ME, ids[0], {})
    taken = await jobs.take(pool)
    assert taken
    assert taken.item == ids[0]


async def test_releases_cancelled_and_resumed_are_exact(pool: Any) -> None:
    ids = await many(pool, 60)
    act = await bulk.begin(pool, ME, "release", query=asked())
    await finish(pool, 2)
    running = await jobs.take(pool)
    assert running
    done = await _deliver(pool, most=10)
    await bulk.cancel(pool, ME, act)
    assert await _deliver(pool) == [], "nothing that had not begun is delivered"
    await jobs.end(pool, running, "done", "delivered")
    found = await bulk.get(pool, ME, act)
    assert found.counts == {"done": 11, "cancelled": 49}
    await bulk.resume(pool, ME, act)
    await finish(pool, 1)
    rest = await _deliver(pool)
    await finish(pool)
    found = await bulk.get(pool, ME, act)
    assert (found.state, found.counts) == ("done", {"done": 60})
    assert sorted([running.item, *done, *rest]) == sorted(ids)


async def test_a_release_that_fails_is_told_by_item(pool: Any) -> None:
    ids = await many(pool, 3)
    await pool.execute("update quarantine set reason = 'virus' where id = $1", ids[0])
    act = await bulk.begin(pool, ME, "release", query=asked())
    await finish(pool)
    await _deliver(pool, "failed")
    await finish(pool)
    found = await bulk.get(pool, ME, act)
    assert found.counts == {"failed": 3}
    told = {each.item: each.reason for each in found.failures}
    assert told == {
        ids[0]: "mail kept for “virus” is released by the operator alone",
        ids[1]: "said so",
        ids[2]: "said so",
    }


async def test_nothing_begins_while_it_is_held_and_undo_then_undoes_all(pool: Any) -> None:
    await many(pool, 5)
    act = await bulk.begin(pool, ME, "delete", query=asked(), hold_s=60)
    await finish(pool)
    found = await bulk.get(pool, ME, act)
    assert (found.state, found.listed, found.counts) == ("running", True, {"waiting": 5})
    await bulk.undo(pool, ME, act)
    await finish(pool)
    assert await statuses(pool) == {"kept": 5}


@pytest.mark.parametrize("viewer", [THEY, Viewer("nobody", "C" * 26, "owner", "api")])
async def test_a_strangers_is_as_if_it_were_not(pool: Any, viewer: Viewer) -> None:
    ids = await many(pool, 3)
    act = await bulk.begin(pool, ME, "delete", query=asked())
    for wrong in (act, "x", "\x00", ""):
        for do in (bulk.get, bulk.cancel, bulk.resume, bulk.undo):
            with pytest.raises(Missing):
                await do(pool, viewer, wrong)
    with pytest.raises(Missing):
        await bulk.begin(pool, viewer, "delete", chosen=ids)
    theirs = await bulk.begin(pool, viewer, "delete", query=Query())
    await bulk.cancel(pool, ME, act)
    await finish(pool)
    assert (await bulk.get(pool, viewer, theirs)).total == 0
    assert await statuses(pool) == {"kept": 3}
    assert await bulk.latest(pool, OPERATOR) == [theirs, act]
    assert await bulk.latest(pool, ME) == [act]


async def test_what_cannot_be_read_is_refused_before_anything_is_stored(pool: Any) -> None:
    wrong: Iterable[dict[str, Any]] = (
        {},
        {"query": asked(), "chosen": ["x"]},
        {"chosen": ["0" * 26 + ".0"] * 1_001},
    )
    for each in wrong:
        with pytest.raises(Invalid):
            await bulk.begin(pool, ME, "delete", **each)
    with pytest.raises(ValueError, match=r"."):
        await bulk.begin(pool, ME, "delete", query=asked(q="score:>banana"))
    assert await pool.fetchval("select count(*) from bulk_acts") == 0


async def test_a_long_one_does_not_hold_up_a_short_one(pool: Any) -> None:
    await many(pool, MANY)
    short = await many(pool, 2, "theirs.test")
    await bulk.begin(pool, ME, "delete", query=asked())
    act = await bulk.begin(pool, THEY, "delete", chosen=short)
    stepping = Stepping(pool)
    for _ in range(4):
        await stepping.one()
    assert (await bulk.get(pool, THEY, act)).state == "done"
    assert (await statuses(pool)).get("deleted") == 2, "the long one is still listing"
