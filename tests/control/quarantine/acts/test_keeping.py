"""What is kept and what goes: holds against retention, quotas, the mail of a domain or mailbox that leaves."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from control.quarantine import acts, holds, leaving, quota, retention
from control.quarantine.objects import Objects
from control.quarantine.packs import Packs
from control.store import domains
from syncd.layers import NextHop
from tests.control.quarantine.acts.conftest import ME, MINE, OPERATOR, THEIRS
from tests.control.quarantine.rows import keep, record_of


@pytest.fixture
async def held(pool: Any) -> str:
    """A domain of mine that was made by the panel's own hand."""
    await domains.create(pool, ME, MINE, "held.test", [NextHop("127.0.0.1", 25)])
    return "held.test"


async def _left(pool: Any) -> set[str]:
    return {row["id"] for row in await pool.fetch("select id from quarantine")}


async def _finish(pool: Any) -> None:
    while await leaving.step(pool):
        pass


async def test_what_is_on_hold_outlives_its_retention(pool: Any, held: str, tmp_path: Path) -> None:
    one, other = [(await keep(pool, record_of([(f"{n}@mine.test", MINE)])))[0] for n in range(2)]
    whole = (await keep(pool, record_of([(f"you@{held}", MINE)])))[0]
    await holds.set_item(pool, ME, one, True)
    await holds.set_domain(pool, ME, held)
    place = Packs(Objects((tmp_path / "store").as_uri()), tmp_path / "open")
    later = datetime.now(UTC) + timedelta(days=200)
    await retention.expire(pool, place, later)
    assert await _left(pool) == {one, whole}, f"without {other}"
    await holds.set_item(pool, ME, one, False)
    await holds.lift_domain(pool, ME, held)
    await retention.expire(pool, place, later)
    assert await _left(pool) == set()


async def test_above_the_quota_the_oldest_go(pool: Any) -> None:
    ids = [(await keep(pool, record_of([("me@mine.test", MINE)], body_bytes=1000)))[0] for _ in range(5)]
    theirs = (await keep(pool, record_of([("they@theirs.test", THEIRS)], body_bytes=9000)))[0]
    await holds.set_item(pool, ME, ids[0], True)
    await quota.put(pool, OPERATOR, MINE, 2500)
    async with pool.acquire() as connection:
        assert await quota.enforce(connection) == 2
        assert await quota.enforce(connection) == 0
    assert await _left(pool) == {ids[0], ids[3], ids[4], theirs}, "what is on hold stays and counts"
    assert (await quota.get(pool, ME, MINE)).used_bytes == 3000


async def test_a_deleted_domain_takes_its_mail_along_but_for_what_is_on_hold(pool: Any, held: str) -> None:
    gone, kept = [
        (await keep(pool, record_of([(f"{n}@{held}", MINE), ("they@theirs.test", THEIRS)]))) for n in range(2)
    ]
    await acts.delete(pool, ME, gone[0])
    await holds.set_item(pool, ME, kept[0], True)
    await domains.delete(pool, ME, held)
    await _finish(pool)
    assert await _left(pool) == {kept[0], kept[1], gone[1]}
    assert await pool.fetchval("select count(*) from messages where account_id = $1", MINE) == 0
    assert await pool.fetchval("select done_at is null from leaving")
    await holds.set_item(pool, ME, kept[0], False)
    await pool.execute("update leaving set looked_at = null")
    await _finish(pool)
    assert await _left(pool) == {kept[1], gone[1]}
    assert await pool.fetchval("select done_at is not null from leaving")


async def test_a_mailbox_leaves_alone_and_may_get_mail_again(pool: Any, held: str) -> None:
    gone = (await keep(pool, record_of([(f"You@{held}", MINE)])))[0]
    other = (await keep(pool, record_of([(f"other@{held}", MINE)])))[0]
    await leaving.mailbox(pool, ME, f"you@{held}")
    new = (await keep(pool, record_of([(f"you@{held}", MINE)], when=datetime.now(UTC) + timedelta(seconds=9))))[0]
    await _finish(pool)
    assert await _left(pool) == {other, new}, f"without {gone}"
