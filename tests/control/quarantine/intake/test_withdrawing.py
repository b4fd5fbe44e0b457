"""What a node takes back is gone from the quarantine, and stays gone; what somebody has begun to release stays."""

from typing import Any

import pytest

from control.quarantine import withdrawing
from syncd.spool.record import Kind, Outcome
from tests.control.quarantine.intake.conftest import Intake
from tests.control.quarantine.intake.held import ACCOUNT, DOMAIN, STREAM, event, kept, result

TABLES = ("quarantine", "mail_records", "later", "placed")


async def left(intake: Intake) -> dict[str, int]:
    """Rows of every table that a withdrawal touches."""
    return {table: await intake.count(table) for table in TABLES}


async def outcomes(intake: Intake) -> list[tuple[int, str]]:
    """What tracking shows of each recipient."""
    return [tuple(row) for row in await intake.pool.fetch("select n, outcome from messages order by txn, n")]


@pytest.mark.parametrize("kind", [Kind.KEPT, Kind.LATER])
async def test_a_stored_record_goes_and_never_comes_back(intake: Intake, kind: Kind) -> None:
    to = result(0, outcome=Outcome(kind.value), judgements=0)
    held = intake.journal.hold(kept(to, kind=kind))
    other = intake.journal.hold(kept())
    await intake.ingest.store([held, other])
    await intake.ingest.withdraw(STREAM, ((1, 1),))
    await intake.ingest.withdraw(STREAM, ((1, 1),))
    assert await left(intake) == {"quarantine": 1, "mail_records": 1, "later": 0, "placed": 1}
    assert sorted(outcome for _, outcome in await outcomes(intake)) == ["deferred", "kept"]
    await intake.figures_add_up()
    await intake.ingest.store([held])
    assert (await left(intake))["quarantine"] == 1
    assert await intake.ingest.stored(STREAM) == ((1, 2),)


async def test_what_is_withdrawn_first_is_not_stored_when_it_comes(intake: Intake) -> None:
    await intake.ingest.withdraw(STREAM, ((1, 5),))
    await intake.ingest.store([intake.journal.hold(kept())])
    assert await left(intake) == dict.fromkeys(TABLES, 0)
    assert await outcomes(intake) == []


async def test_the_other_copy_of_the_same_transaction_stays(intake: Intake) -> None:
    first, second = result(0, f"a@{DOMAIN}"), result(1, f"b@{DOMAIN}")
    before, after = kept(first), kept(second)
    after = type(after)(**{**{name: getattr(after, name) for name in after.__struct_fields__}, "id": before.id})
    await intake.ingest.store([intake.journal.hold(before), intake.journal.hold(after)])
    await intake.ingest.withdraw(STREAM, ((2, 2),))
    assert await outcomes(intake) == [(0, "kept"), (1, "deferred")]
    assert await left(intake) == {"quarantine": 1, "mail_records": 1, "later": 0, "placed": 1}
    await intake.figures_add_up()


@pytest.mark.parametrize(("state", "stays"), [("queued", 1), ("done", 1), ("unknown", 1), ("cancelled", 0)])
async def test_a_release_that_has_begun_wins(intake: Intake, state: str, stays: int) -> None:
    record = kept()
    await intake.ingest.store([intake.journal.hold(record)])
    await intake.pool.execute(
        "insert into jobs (id, account_id, act, item, state, created_by) values ('J', $1, 'release', $2, $3, 'me')",
        ACCOUNT, f"{record.id}.0", state,
    )  # fmt: skip
    await intake.ingest.withdraw(STREAM, ((1, 1),))
    assert await intake.count("quarantine") == await intake.count("mail_records") == stays
    assert await outcomes(intake) == [(0, "kept" if stays else "deferred")]
    await intake.figures_add_up()


@pytest.mark.parametrize("ranges", [((0, 2**64 - 1),), ((2**64 - 1, 2**64 - 1),), ((1, 1), (3, 2**63))])
async def test_any_ranges_are_taken(intake: Intake, ranges: Any) -> None:
    await intake.ingest.store([intake.journal.hold(event()), intake.journal.hold(kept())])
    await intake.ingest.withdraw(STREAM, ranges)
    assert await intake.count("messages") == 2
    await intake.figures_add_up()


async def test_what_is_a_day_old_is_forgotten(intake: Intake) -> None:
    await intake.ingest.store([intake.journal.hold(kept()), intake.journal.hold(kept())])
    await intake.pool.execute("update placed set at = at - interval '25 hours' where position = 1")
    async with intake.pool.acquire() as connection:
        await withdrawing.forget(connection)
    assert await intake.pool.fetchval("select array_agg(position) from placed") == [2]
    await intake.ingest.withdraw(STREAM, ((1, 2),))
    assert await intake.count("quarantine") == 1
