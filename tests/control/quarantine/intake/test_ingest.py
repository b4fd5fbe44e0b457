"""What is stored of a record, once, whatever comes twice; rows, bodies, figures and positions agree."""

import random
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import zstandard
from ulid import ULID

from control.auth import Viewer
from control.quarantine import search
from syncd.spool.record import Judgement, Kind, Outcome, Record
from syncd.spool.stream import Stream
from tests.control.quarantine.intake.conftest import Intake
from tests.control.quarantine.intake.held import ACCOUNT, DOMAIN, MAIL, STREAM, THEIRS, Journal, event, kept, result


async def test_a_refused_mail_is_found_read_and_explained(intake: Intake) -> None:
    record = kept()
    await intake.ingest.store([intake.journal.hold(record)])
    row = await intake.pool.fetchrow("select * from quarantine")
    number = await intake.pool.fetchval("select number from domains where name = $1", DOMAIN)
    assert (row["id"], row["txn"], row["domain"], row["account_id"]) == (f"{record.id}.0", record.id, number, ACCOUNT)
    assert row["received_at"] == ULID.from_str(record.id).datetime
    assert (row["reason"], row["filter"], row["status"], str(row["client_ip"])) == (
        "content", "content", "kept", "192.0.2.7",
    )  # fmt: skip
    assert await intake.body(row) == MAIL
    assert row["body_sha256"].hex() == record.body_sha256
    stored = await intake.pool.fetchval("select record from mail_records where txn = $1", record.id)
    assert msgspec.json.decode(zstandard.decompress(stored), type=Record) == record
    tracked = await intake.pool.fetchrow("select * from messages")
    assert (tracked["txn"], tracked["n"], tracked["outcome"], tracked["reply"]) == (
        record.id,
        0,
        "kept",
        "550 5.7.1 no",
    )
    judged = msgspec.json.decode(zstandard.decompress(tracked["judgements"]), type=tuple[Judgement, ...])
    assert judged == record.judgements[0]
    assert [tuple(each) for each in await intake.pool.fetch("select class, mails from packs")] == [("31", 1)]
    assert await intake.ingest.stored(STREAM) == ((1, 1),)
    await intake.figures_add_up()


@pytest.mark.parametrize(
    "typed",
    ["zq123", "ann", "sender", "ann@sender.test", DOMAIN, "you", "invoice", "7.pdf", "Invoice_7.pdf", '"about zq123"'],
)
async def test_words_of_subject_addresses_and_names_are_found(intake: Intake, typed: str) -> None:
    await intake.ingest.store([intake.journal.hold(kept()), intake.journal.hold(kept(subject="else", attachments=()))])
    page = await search.search(intake.pool, Viewer("me", ACCOUNT, "owner", "api"), search.Query(q=typed))
    assert len(page.items) == (1 if "zq" in typed or "7" in typed or "inv" in typed else 2)


async def test_every_recipient_has_a_row_and_the_mail_one_body(intake: Intake) -> None:
    recipients = (
        result(0, f"a@{DOMAIN}"),
        result(1, "b@theirs.test", account=THEIRS),
        result(2, f"c@{DOMAIN}", Outcome.DELIVERED, reason=""),
    )
    await intake.ingest.store([intake.journal.hold(kept(*recipients))])
    rows = await intake.pool.fetch("select recipient, account_id, pack, pack_offset, pack_bytes from quarantine")
    assert {(row["recipient"], row["account_id"]) for row in rows} == {
        (f"a@{DOMAIN}", ACCOUNT), ("b@theirs.test", THEIRS),
    }  # fmt: skip
    assert len({row["pack_offset"] for row in rows}) == 1
    assert await intake.count("messages") == 3
    assert await intake.pool.fetchval("select sum(mails) from packs") == 1
    await intake.figures_add_up()


async def test_the_two_copies_of_one_transaction_make_one_record(intake: Intake) -> None:
    """Those refused by policy are secured before the relay, those the next hop refused after it, and the rest told."""
    txn = str(ULID())
    hop = Judgement("spf", "mail", "on", "pass")
    first = kept(result(0, judgements=0), id=txn, reply="")
    second = kept(
        result(1, f"b@{DOMAIN}", judgements=0, reason="next_hop"), id=txn, judgements=((hop,),), reply="250 ok"
    )
    last = event(result(2, f"c@{DOMAIN}", Outcome.DELIVERED, reason=""), id=txn)
    await intake.ingest.store([intake.journal.hold(first)])
    await intake.ingest.store([intake.journal.hold(second), intake.journal.hold(last)])
    whole = msgspec.json.decode(
        zstandard.decompress(await intake.pool.fetchval("select record from mail_records")), type=Record
    )
    assert [each.n for each in whole.recipients] == [0, 1]
    assert [whole.judgements[each.judgements][0].filter for each in whole.recipients] == ["content", "spf"]
    assert whole.reply == "250 ok"
    outcomes = await intake.pool.fetch("select n, outcome from messages order by n")
    assert [tuple(row) for row in outcomes] == [(0, "kept"), (1, "kept"), (2, "delivered")]
    await intake.figures_add_up()


async def test_later_mail_waits_with_its_body_and_its_record(intake: Intake) -> None:
    record = kept(result(0, outcome=Outcome.LATER), kind=Kind.LATER)
    await intake.ingest.store([intake.journal.hold(record)])
    row = await intake.pool.fetchrow("select * from later")
    assert (row["id"], row["state"], row["attempts"]) == (f"{record.id}.0", "waiting", 0)
    assert await intake.body(row) == MAIL
    assert msgspec.json.decode(zstandard.decompress(row["record"]), type=Record) == record
    assert await intake.count("quarantine") == 0


async def test_an_event_leaves_tracking_and_no_body(intake: Intake) -> None:
    await intake.ingest.store([intake.journal.hold(event(), b"")])
    assert await intake.count("messages", "outcome = 'delivered'") == 1
    assert (await intake.count("packs"), await intake.count("quarantine")) == (0, 0)
    assert list(intake.packs.directory.glob("*.pack")) == []


async def test_whatever_comes_again_counts_once(intake: Intake) -> None:
    """In any order and grouping, under its own position or, shipped by another holder, under a new one."""
    chance = random.Random(7)
    held = [*intake.journal.mails(30), *(intake.journal.hold(event()) for _ in range(30))]
    for _ in range(12):
        await intake.ingest.store(chance.sample(held, chance.randint(1, 40)))
    await intake.ingest.store(held)
    taken_over = Journal(intake.journal.directory, Stream("mx1", "f" * 32))
    await intake.ingest.store([taken_over.hold(each.header, MAIL) for each in held])
    assert (await intake.count("quarantine"), await intake.count("messages")) == (30, 60)
    assert await intake.count("poison") == 0
    assert await intake.pool.fetchval("select sum(mails) from rollups") == 60
    assert await intake.ingest.stored(STREAM) == ((1, 60),)
    assert await intake.ingest.stored(taken_over.stream) == ((1, 60),)
    for row in await intake.pool.fetch("select * from quarantine"):
        assert await intake.body(row) == MAIL
    await intake.figures_add_up()


async def test_what_a_customer_deleted_never_returns(intake: Intake) -> None:
    held = intake.journal.mails(3)
    await intake.ingest.store(held)
    await intake.pool.execute("delete from quarantine")
    await intake.ingest.store(held)
    assert await intake.count("quarantine") == 0


async def test_positions_are_remembered_as_ranges(intake: Intake) -> None:
    held = {position: intake.journal.hold(event(), position=position) for position in (1, 2, 3, 7, 8, 100, 2**62)}
    await intake.ingest.store([held[3], held[1]])
    assert await intake.ingest.stored(STREAM) == ((1, 1), (3, 3))
    await intake.ingest.store(list(held.values()))
    assert await intake.ingest.stored(STREAM) == ((1, 3), (7, 8), (100, 100), (2**62, 2**62))
    assert await intake.ingest.stored(Stream("mx1", "0" * 32)) == ()


async def test_mail_stays_with_the_account_it_came_for(intake: Intake) -> None:
    """Its domain may be gone or another's by the time it is stored; and a stranger's domain is nobody's."""
    records = {
        "gone": kept(result(0, "x@gone.test")),
        "moved": kept(result(0, "x@theirs.test")),
        "unknown settings": event(result(0, f"x@{DOMAIN}", Outcome.DEFERRED, account="")),
        "relaying": event(result(0, "x@elsewhere.test", Outcome.REFUSED, account="", reason="relaying")),
    }
    await intake.ingest.store([intake.journal.hold(record) for record in records.values()])
    number = await intake.pool.fetchval("select number from domains where name = $1", DOMAIN)
    found = {
        row["txn"]: (row["domain"], row["account_id"]) for row in await intake.pool.fetch("select * from messages")
    }
    assert {name: found[record.id] for name, record in records.items()} == {
        "gone": (0, ACCOUNT),
        "moved": (0, ACCOUNT),
        "unknown settings": (number, ACCOUNT),
        "relaying": (0, ""),
    }


async def test_the_class_of_a_body_is_that_of_the_recipient_who_keeps_it_longest(intake: Intake) -> None:
    for scope, name, days in (("system", "", 5), ("domain", "theirs.test", 60)):
        await intake.pool.execute(
            "insert into layers (scope, name, settings, revision, hash) values ($1, $2, $3::text::jsonb, 1, '')",
            scope, name, f'{{"retention": {{"days": {days}}}}}',
        )  # fmt: skip
    both = kept(result(0), result(1, "b@theirs.test", account=THEIRS))
    await intake.ingest.store([intake.journal.hold(kept()), intake.journal.hold(both)])
    assert [row["class"] for row in await intake.pool.fetch("select class from packs order by class")] == ["7", "92"]


@pytest.mark.parametrize("days", [-366, -40, -1, 1])
async def test_old_and_early_records_have_a_partition_of_their_own_day(intake: Intake, days: int) -> None:
    at = datetime.now(UTC) + timedelta(days=days, minutes=-1 if days > 0 else 1)
    await intake.ingest.store([intake.journal.hold(kept(at=at))])
    row = await intake.pool.fetchrow("select received_at, pack, tableoid::regclass::text as name from quarantine")
    assert abs(row["received_at"] - at) < timedelta(milliseconds=1)
    assert row["name"] == f"quarantine_{at:%Y%m%d}"
    assert row["pack"].startswith(f"{at:%Y-%m-%d}/")


IN_2036 = str(ULID.from_datetime(datetime(2036, 1, 1, tzinfo=UTC)))


@pytest.mark.parametrize("txn", ["0" * 26, "7" + "Z" * 25, IN_2036], ids=["1970", "10889", "2036"])
async def test_mail_from_a_node_whose_clock_is_absurd_is_dated_to_its_arrival(intake: Intake, txn: str) -> None:
    held = intake.journal.hold(kept(id=txn))
    await intake.ingest.store([held])
    row = await intake.pool.fetchrow("select * from quarantine")
    assert timedelta() <= datetime.now(UTC) - row["received_at"] < timedelta(days=1, minutes=1)
    assert await intake.body(row) == MAIL


async def test_a_partition_that_is_taken_away_under_a_running_ingest_is_made_again(intake: Intake) -> None:
    await intake.ingest.store(intake.journal.mails(1))
    today = datetime.now(UTC)
    for table in ("quarantine", "mail_records", "messages"):
        await intake.pool.execute(f"drop table {table}_{today:%Y%m%d}")
    await intake.ingest.store(intake.journal.mails(3))
    assert (await intake.count("quarantine"), await intake.count("poison")) == (3, 0)
