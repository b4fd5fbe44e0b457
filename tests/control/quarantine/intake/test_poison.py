"""Records that cannot be stored: set aside whole, one by one, while all others are stored; most hostile ones fit."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.quarantine import rows
from control.quarantine.rows import Unreadable
from monitoring.metrics import control as metrics
from syncd.spool.record import Judgement, Outcome
from tests.control.quarantine.intake.conftest import Intake
from tests.control.quarantine.intake.held import MAIL, STREAM, event, kept, result

GOOD = kept()
NO_RECORDS = {
    "nothing": b"",
    "garbage": b"\xff\x00\x01garbage",
    "another document": b'{"id": 5}',
    "a list": b"[]",
    "cut": msgspec.json.encode(GOOD)[:-20],
    "deep": b"[" * 100_000,
    "unknown kind": msgspec.json.encode(GOOD).replace(b'"kept"', b'"lost"'),
    "unknown outcome": msgspec.json.encode(GOOD).replace(b'"outcome":"kept"', b'"outcome":"eaten"'),
    "no id": msgspec.json.encode(kept(id="")),
    "an id that is no ULID": msgspec.json.encode(kept(id="../../etc/passwd")),
    "a number beyond": msgspec.json.encode(kept(result(10**9))),
    "a number below": msgspec.json.encode(kept(result(-1))),
    "a lone surrogate": msgspec.json.encode(GOOD).replace(b"about zq123", b"about \\ud800"),
    "bytes that are no UTF-8": msgspec.json.encode(GOOD).replace(b"about zq123", b"about \xff\xfe"),
}
TEXTS = ("subject", "sender", "header_from", "helo", "message_id", "client_ip", "reply")
HOSTILE: dict[str, Any] = {
    "NULs everywhere": dict.fromkeys((*TEXTS, "tls", "node"), "a\0b\0"),
    "NULs in a recipient": {"recipients": (result(0, "a\0b@mine.test", reason="x\0", text="\0", account="\0"),)},
    "NUL in a domain": {"recipients": (result(0, "a@mi\0ne.test"),)},
    "a huge subject": {"subject": "é" * 2_000_000},
    "one huge word": {"subject": "x" * 3_000_000, "attachments": ("y" * 100_000,) * 1000},
    "huge reasons": {"recipients": (result(0, reason="r" * 100_000, text="t" * 100_000, next_hop="h" * 9000),)},
    "huge names": {"node": "n" * 100_000, "sender": "s" * 100_000, "helo": "h" * 9000, "message_id": "m" * 10**6},
    "a huge account": {"recipients": (result(0, account="a" * 100_000),)},
    "numbers beyond any column": {
        "recipients": (result(0, score=1e300, generation=2**80, revision=-(2**80)),), "body_bytes": 2**70,
    },
    "negative numbers": {"recipients": (result(0, score=-1e300, judgements=-7),), "body_bytes": -5, "client_port": -1},
    "judgements that are not there": {"recipients": (result(0, judgements=99),)},
    "a date that no calendar has": {"received_at": 1e300},
    "an address that is none": {"client_ip": "not an address"},
    "an address with a zone": {"client_ip": "fe80::1%eth0"},
    "no recipients": {"recipients": ()},
    "the same recipient twice": {"recipients": (result(0), result(0, "other@mine.test"))},
    "a hash that is none": {"body_sha256": "xyz"},
    "deep evidence": {
        "judgements": ((Judgement("f", "s", "on", "refuse", evidence={"a": [[[["\0"]]]]}, acted=True),),)
    },
}  # fmt: skip


def test_every_one_of_these_is_told_as_no_record() -> None:
    for name, header in NO_RECORDS.items():
        if "id" not in name.split():
            with pytest.raises(Unreadable):
                rows.decode(header)


async def test_what_is_no_record_is_set_aside_whole_and_all_others_are_stored(intake: Intake) -> None:
    before = metrics.receiver_poison._value.get()
    bad = {name: intake.journal.hold(header, b"body of " + name.encode()) for name, header in NO_RECORDS.items()}
    good = intake.journal.mails(20)
    batch = [*bad.values(), *good]
    random.Random(1).shuffle(batch)
    await intake.ingest.store(batch)
    assert await intake.count("quarantine") == 20
    found = {row["id"]: row for row in await intake.pool.fetch("select * from poison")}
    assert len(found) == len(bad)
    for held in bad.values():
        row = found[f"mx1.{STREAM.epoch}.{held.position}"]
        assert row["record"] == held.header
        assert row["error"]
        assert await intake.body(row) == held.read_body()
    assert await intake.ingest.stored(STREAM) == ((1, len(batch)),)
    assert metrics.receiver_poison._value.get() == before + len(bad)
    await intake.ingest.store(batch)
    assert await intake.count("poison") == len(bad)
    assert metrics.receiver_poison._value.get() == before + len(bad)


async def test_hostile_values_are_brought_into_the_columns(intake: Intake) -> None:
    records = {name: kept(**fields) for name, fields in HOSTILE.items()}
    await intake.ingest.store([intake.journal.hold(record) for record in records.values()])
    assert [tuple(row) for row in await intake.pool.fetch("select id, error from poison")] == []
    stored = {row["txn"]: row for row in await intake.pool.fetch("select * from quarantine")}
    assert set(records) - {name for name, record in records.items() if record.id in stored} == {"no recipients"}
    assert stored[records["an address that is none"].id]["client_ip"].exploded == "0.0.0.0"
    assert stored[records["NULs everywhere"].id]["subject"] == "a\ufffdb\ufffd"
    assert len(stored[records["a huge subject"].id]["subject"]) == rows.LINE
    await intake.figures_add_up()


async def test_a_transaction_with_very_many_recipients_is_stored_and_one_with_too_many_set_aside(
    intake: Intake,
) -> None:
    many = kept(*(result(n, f"u{n}@mine.test") for n in range(5000)))
    beyond = kept(*(result(n, f"u{n}@mine.test") for n in range(rows.RECIPIENTS + 2)))
    await intake.ingest.store([intake.journal.hold(beyond), intake.journal.hold(many)])
    assert (await intake.count("quarantine"), await intake.count("poison")) == (5000, 1)
    assert await intake.pool.fetchval("select sum(mails) from packs") == 2
    await intake.figures_add_up()


async def test_what_postgresql_will_not_take_is_found_among_many_and_set_aside(intake: Intake) -> None:
    """A rule of the schema that our rows know nothing of stands for every cause that nobody thought of."""
    await intake.pool.execute("alter table messages add constraint odd check (subject <> 'odd')")
    batch = [*intake.journal.mails(100), *intake.journal.mails(2, subject="odd"), *intake.journal.mails(50)]
    await intake.ingest.store(batch)
    assert await intake.count("quarantine") == 150
    found = await intake.pool.fetch("select * from poison")
    assert {row["record"] for row in found} == {batch[100].header, batch[101].header}
    assert "odd" in found[0]["error"]
    assert await intake.body(found[0]) == MAIL
    assert await intake.pool.fetchval("select sum(mails) from packs") == 152, "no body was written twice"
    await intake.figures_add_up()


async def test_a_damaged_body_costs_the_mail_its_body_alone(intake: Intake) -> None:
    class Damaged:
        """As the journal says it: a ValueError."""

        stream, position, body_bytes = STREAM, 900, 10
        header = msgspec.json.encode(kept())

        def read_body(self) -> bytes:
            raise ValueError("the body's checksum differs")

    gone = intake.journal.hold(kept())
    gone.body.unlink()
    lost = metrics.bodies_lost._value.get()
    await intake.ingest.store([Damaged(), gone, *intake.journal.mails(3)])
    found = [
        row["pack"] == "" for row in await intake.pool.fetch("select pack from quarantine order by received_at, id")
    ]
    assert sorted(found) == [False, False, False, True, True]
    assert metrics.bodies_lost._value.get() == lost + 2


TEXT = st.text(max_size=60)
NUMBERS = st.integers(-(2**70), 2**70)
RECIPIENT = st.builds(
    result,
    st.integers(0, 40),
    TEXT,
    st.sampled_from(list(Outcome)),
    account=TEXT,
    domain=TEXT,
    reason=TEXT,
    text=TEXT,
    reply=TEXT,
    next_hop=TEXT,
    score=st.floats(allow_nan=False, allow_infinity=False),
    judgements=st.integers(-2, 3),
    generation=NUMBERS,
    revision=NUMBERS,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys((*TEXTS, "tls"), TEXT),
        "received_at": st.floats(allow_nan=False, allow_infinity=False),
        "recipients": st.lists(RECIPIENT, max_size=4).map(tuple),
        "attachments": st.lists(TEXT, max_size=5).map(tuple),
        "body_bytes": NUMBERS,
    },
)


@given(many=st.lists(FIELDS, min_size=1, max_size=20))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_record_that_can_be_read_is_set_aside_or_lost(intake: Intake, many: list[dict[str, Any]]) -> None:
    make = random.Random(0).choice
    batch = [intake.journal.hold(make((kept, event))(**fields)) for fields in many]
    before = await intake.count("messages")
    await intake.ingest.store(batch)
    assert await intake.count("poison") == 0
    expected = sum(len({each.n for each in rows.decode(held.header).recipients}) for held in batch)
    assert await intake.count("messages") == before + expected
