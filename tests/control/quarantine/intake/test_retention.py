"""What is kept no longer goes, and nothing else: rows by their domain's days, bodies with the last row, whole days."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from control.quarantine import retention
from control.quarantine.packs import BodyLost
from control.quarantine.retention import Expired, Rule, rules
from control.store import migrate
from syncd.spool.record import Kind, Outcome
from tests.control.quarantine.intake.conftest import Intake
from tests.control.quarantine.intake.held import STREAM, THEIRS, kept, result

NOW = datetime.now(UTC)
Keep = Callable[[str, int], Awaitable[None]]


def before(days: float) -> datetime:
    """A moment so many days ago, a minute later: a row of then is kept for these days still."""
    return NOW - timedelta(days=days) + timedelta(minutes=1)


@pytest.fixture
def keep(intake: Intake) -> Keep:
    """Set how many days a domain ("" for the system's default) keeps."""

    async def setting(domain: str, days: int) -> None:
        await intake.pool.execute(
            "insert into layers (scope, name, settings, revision, hash) values ($1, $2, $3::text::jsonb, 1, '')"
            " on conflict (scope, name) do update set settings = excluded.settings",
            "domain" if domain else "system",
            domain,
            f'{{"retention": {{"days": {days}}}}}',
        )

    return setting


async def seal(intake: Intake) -> None:
    """Move all packs into the store, as it happens once their day is over."""
    writer = intake.ingest._writer
    writer._open.clear()
    await writer.seal()


async def ages(intake: Intake, table: str = "quarantine") -> list[tuple[str, int]]:
    """Recipients and ages in days of all rows."""
    rows = await intake.pool.fetch(f"select recipient, received_at from {table} order by received_at desc, recipient")
    return [(row["recipient"].partition("@")[2], round((NOW - row["received_at"]) / timedelta(days=1))) for row in rows]


def test_rules_of_days() -> None:
    found = list(rules({1: 7, 2: 31, 3: 92, 4: 31, 5: 92}, 31, NOW))
    assert found == [
        Rule(NOW - timedelta(days=7), [1], is_but=False),
        Rule(NOW - timedelta(days=31), [3, 5], is_but=True),
        Rule(NOW - timedelta(days=92), [], is_but=True),
    ]
    assert list(rules({}, 5, NOW)) == [Rule(NOW - timedelta(days=5), [], is_but=True)]


async def test_each_domain_keeps_for_its_own_days(intake: Intake, keep: Keep) -> None:
    await keep("mine.test", 3)
    await keep("theirs.test", 40)
    for days in (0, 3, 4, 31, 32, 40, 41):
        mine, theirs = result(0), result(1, "b@theirs.test", account=THEIRS)
        gone = result(2, "c@gone.test")
        await intake.ingest.store([intake.journal.hold(kept(mine, theirs, gone, at=before(days)))])
    done = await retention.expire(intake.pool, intake.packs, NOW)
    expected = [
        *((domain, 0) for domain in ("theirs.test", "gone.test", "mine.test")),
        *((domain, 3) for domain in ("theirs.test", "gone.test", "mine.test")),
        *((domain, 4) for domain in ("theirs.test", "gone.test")),
        *((domain, 31) for domain in ("theirs.test", "gone.test")),
        ("theirs.test", 32),
        ("theirs.test", 40),
    ]
    assert sorted(await ages(intake)) == sorted(expected)
    assert sorted(await ages(intake, "messages")) == sorted(expected)
    assert await intake.count("mail_records") == 6
    assert done.rows + 3 * 2 * done.days == 2 * (21 - len(expected))
    again = await retention.expire(intake.pool, intake.packs, NOW)
    assert again == Expired(0, 0, 0), "harmless again"
    assert await intake.ingest.stored(STREAM) == ((1, 7),), "what was stored is remembered"


async def test_whole_days_are_dropped_when_nobody_keeps_for_longer(intake: Intake) -> None:
    for days in (0, 30, 33, 34):
        await intake.ingest.store([intake.journal.hold(kept(at=before(days)))])
    done = await retention.expire(intake.pool, intake.packs, NOW)
    assert (done.days, done.rows) == (2, 0)
    assert [age for _, age in await ages(intake)] == [0, 30]
    assert await intake.pool.fetchval("select to_regclass($1)", f"messages_{before(33):%Y%m%d}") is None


async def test_a_day_that_somebody_reads_is_dropped_the_next_time(intake: Intake) -> None:
    await intake.ingest.store([intake.journal.hold(kept(at=before(40)))])
    async with intake.pool.acquire() as reader, reader.transaction():
        await reader.fetch("select * from messages")
        assert (await retention.expire(intake.pool, intake.packs, NOW)).days == 0
    assert (await retention.expire(intake.pool, intake.packs, NOW)).days == 1


async def test_bodies_go_with_the_class_and_the_last_row(intake: Intake, keep: Keep) -> None:
    await keep("mine.test", 2)
    held = [intake.journal.hold(kept(at=before(days))) for days in (1, 6, 9)]
    await intake.ingest.store(held)
    rows = await intake.pool.fetch("select pack, pack_offset, pack_bytes from quarantine order by received_at desc")
    await seal(intake)
    await keep("mine.test", 10)
    assert (await retention.expire(intake.pool, intake.packs, NOW)).packs == 0, (
        "kept for longer since: still pointed to"
    )
    assert [await intake.body(row) for row in rows] == [each.read_body() for each in held]
    await keep("mine.test", 2)
    assert (await retention.expire(intake.pool, intake.packs, NOW)) == Expired(days=0, rows=4, packs=1)
    with pytest.raises(BodyLost):
        await intake.body(rows[2])
    assert await intake.body(rows[1]), "its class of 7 days is not over"
    assert await intake.count("packs") == 2


async def test_waiting_mail_and_what_was_set_aside_keep_their_bodies(intake: Intake) -> None:
    waiting = intake.journal.hold(kept(result(0, outcome=Outcome.LATER), kind=Kind.LATER, at=before(60)))
    await intake.ingest.store([waiting, intake.journal.hold(b"garbage")])
    await seal(intake)
    far = NOW + timedelta(days=400)
    for place in await intake.pool.fetch(
        "select pack, pack_offset, pack_bytes from later union all select pack, pack_offset, pack_bytes from poison"
    ):
        await retention.expire(intake.pool, intake.packs, far)
        assert await intake.body(place) == waiting.read_body()
    await intake.pool.execute("update later set state = 'done'")
    await intake.pool.execute("delete from poison")
    assert (await retention.expire(intake.pool, intake.packs, far)).packs == 2


async def test_packs_of_a_crash_that_no_table_knows_go_when_their_class_is_over(intake: Intake) -> None:
    await intake.ingest.store([intake.journal.hold(kept(at=before(6))), intake.journal.hold(kept(at=before(40)))])
    await seal(intake)
    await intake.pool.execute("delete from packs")
    await intake.pool.execute("truncate quarantine, mail_records, messages")
    stored = await intake.packs.objects.directories()
    assert (await retention.expire(intake.pool, intake.packs, NOW)).packs == 1
    left = [day for day in stored if await intake.packs.objects.listing(day)]
    assert left == [f"{before(6):%Y-%m-%d}"]


async def test_an_empty_database_has_nothing_to_expire(intake: Intake) -> None:
    assert await retention.expire(intake.pool, intake.packs, NOW) == Expired(0, 0, 0)
    async with intake.pool.acquire() as connection:
        assert await migrate.plan(connection) == []
