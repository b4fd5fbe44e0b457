"""Mail kept for a server that was down: its schedule by table; delivered, put off, or ended in the quarantine."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from msgspec.structs import replace

from control.quarantine import items, later, packs, search, tracking
from control.quarantine.delivering import Delivering
from control.quarantine.search import Query
from control.store import rollups
from syncd.layers import NextHop
from syncd.spool.record import Kind, Outcome
from tests.control.quarantine.acts.conftest import ME, MINE, OPERATOR, THEY
from tests.control.quarantine.acts.janitors import JanitorProcess, settings_for
from tests.control.quarantine.acts.test_janitor import janitor, until, working
from tests.control.quarantine.rows import at, keep, pack, record_of, track_one
from tests.nexthops import Mailbox, answers, real, scripted
from tests.servers import free_port

__all__ = ["janitor", "working"]

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
RAW = b"Subject: wait\r\n\r\nbody\r\n"


@pytest.mark.parametrize(
    ("attempts", "minutes"), [(0, 15), (1, 15), (8, 15), (9, 22.5), (10, 33.75), (17, 576.65), (18, 720), (1000, 720)]
)
def test_it_is_tried_often_at_first(attempts: int, minutes: float) -> None:
    waits = (later.next_try(attempts, NOW) - NOW).total_seconds() / 60
    assert waits == pytest.approx(minutes, abs=0.01)


def test_it_is_tried_for_five_days() -> None:
    assert not later.is_over(NOW - timedelta(days=4, hours=23), NOW)
    assert later.is_over(NOW - timedelta(days=5), NOW)


@pytest.fixture
def place(tmp_path: Path) -> packs.Packs:
    """Packs of an installation."""
    return packs.open(settings_for("", tmp_path))


async def point_to(pool: Any, hop: NextHop) -> None:
    """Have this next hop for every domain."""
    hops = f'[{{"host": "{hop.host}", "port": {hop.port}}}]'
    await pool.execute("update domains set next_hops = $1::text::jsonb", hops)


async def deferred(pool: Any, place: packs.Packs, hop: NextHop, *, back: float = 0.01, also_kept: bool = False) -> str:
    """A mail that waits, with its rows in tracking and roll-ups, and this next hop."""
    await point_to(pool, hop)
    body = (await asyncio.to_thread(pack, place, RAW))[0]
    record = record_of([("kept@mine2.test", MINE), ("me@mine.test", MINE)], when=at(back), body_bytes=len(RAW))
    first, second = record.recipients
    whole = replace(record, kind=Kind.LATER, recipients=(replace(second, outcome=Outcome.LATER, reason="next_hop"),))
    if also_kept:
        await keep(pool, replace(record, recipients=(first,)), pack=body.pack, offset=body.offset, size=body.size)
    when = datetime.fromtimestamp(record.received_at, UTC)
    await track_one(pool, whole, whole.recipients[0], when)
    await pool.execute(
        "insert into rollups (day, domain, outcome, reason, mails, bytes) values ($1, (select number from domains"
        " where name = 'mine.test'), 'later', 'next_hop', 1, $2)"
        " on conflict (day, domain, outcome, reason) do update set mails = rollups.mails + 1",
        when.date(),
        len(RAW),
    )
    await pool.execute(
        "insert into later (id, txn, received_at, domain, account_id, sender, recipient, pack, pack_offset, pack_bytes,"
        " record) values ($1, $2, $3, (select number from domains where name = 'mine.test'), $4, $5, $6, $7, $8, $9,"
        " $10)",
        f"{record.id}.1",
        record.id,
        when,
        MINE,
        record.sender,
        "me@mine.test",
        body.pack,
        body.offset,
        body.size,
        zstandard.compress(msgspec.json.encode(whole)),
    )
    return f"{record.id}.1"


async def counts(pool: Any, back: float = 0.01) -> dict[str, int]:
    """What the panel counts for that day."""
    found = await rollups.by_day(pool, ME, at(back).date(), 1)
    return {name: mails for name, mails in found[at(back).date()].items() if mails}


async def test_it_is_delivered_once_and_shown_so(pool: Any, place: packs.Packs) -> None:
    mailbox, delivering = Mailbox(), Delivering(pool, place, "panel.test")
    async with real(mailbox) as hop:
        waiting = await deferred(pool, place, hop)
        assert await counts(pool) == {"later": 1}
        assert [await delivering.one() for _ in range(2)] == [True, False]
    assert [(to, content) for _, to, content in mailbox.mails] == [
        (("me@mine.test",), b"Received: from client.sender.test\r\n\tby mx1.test; now\r\n" + RAW)
    ]
    found = await tracking.find(pool, ME, waiting)
    assert found is not None
    assert [(each.outcome, each.reply, each.next_hop) for each in found.recipients] == [
        ("delivered", "250 2.0.0 taken", f"127.0.0.1:{hop.port}")
    ]
    assert await counts(pool) == {"delivered": 1}
    assert await later.waiting(pool) == 0
    assert (await search.search(pool, ME, Query())).items == []


async def test_a_server_that_is_down_or_puts_off_or_breaks_gets_it_another_time(pool: Any, place: packs.Packs) -> None:
    delivering = Delivering(pool, place, "panel.test")
    waiting = await deferred(pool, place, NextHop("127.0.0.1", free_port()))
    assert await delivering.one()
    row = await pool.fetchrow("select state, attempts, last_reply, next_attempt_at - now() as waits from later")
    assert (row["state"], row["attempts"]) == ("waiting", 1)
    assert timedelta(minutes=14) < row["waits"] <= timedelta(minutes=15)
    assert "does not answer" in row["last_reply"]
    for said in ({"RCPT": "450 4.2.0 busy"}, {"dot": None}):
        async with scripted(answers(**said)) as hop:
            await point_to(pool, hop)
            assert await later.push(pool, ME, waiting)
            assert await delivering.one()
    assert await pool.fetchrow("select state, attempts from later") == ("waiting", 3)
    assert await counts(pool) == {"later": 1}


async def test_behind_a_server_that_is_down_the_domains_other_mail_waits(pool: Any, place: packs.Packs) -> None:
    hop, delivering = NextHop("127.0.0.1", free_port()), Delivering(pool, place, "panel.test")
    for _ in range(5):
        await deferred(pool, place, hop)
    assert await delivering.one()
    assert not await delivering.one(), "each would only wait for the same server again"
    assert await pool.fetchval("select min(next_attempt_at) > now() + interval '1 minute' from later")


@pytest.mark.parametrize(
    ("said", "reason", "text"),
    [
        ("550 5.1.1 no such user", "unknown_user", "127.0.0.1:{port} said: 550 5.1.1 no such user"),
        ("554 5.7.1 policy", "next_hop", "127.0.0.1:{port} said: 554 5.7.1 policy"),
    ],
)
@pytest.mark.parametrize("also_kept", [False, True])
async def test_what_the_server_refuses_ends_in_the_quarantine_and_never_as_a_bounce(
    pool: Any, place: packs.Packs, said: str, reason: str, text: str, also_kept: bool
) -> None:
    delivering = Delivering(pool, place, "panel.test")
    async with scripted(answers(RCPT=said)) as hop:
        waiting = await deferred(pool, place, hop, also_kept=also_kept)
        assert await delivering.one()
    assert await delivering.one() is False
    item = await items.get(pool, ME, waiting)
    assert item is not None
    assert (item.reason, item.reason_text, item.status) == (reason, text.format(port=hop.port), "kept")
    assert await items.raw(pool, place, ME, waiting) == RAW
    assert item.record is not None
    assert {each.n for each in item.record.recipients} == ({0, 1} if also_kept else {1})
    found = await search.search(pool, ME, Query(q="zebras", recipient="me@mine.test"))
    assert [each.id for each in found.items] == [waiting]
    assert await counts(pool) == {"kept": 1}
    assert await items.get(pool, THEY, waiting) is None


async def test_after_five_days_it_is_in_the_quarantine(pool: Any, place: packs.Packs) -> None:
    waiting = await deferred(pool, place, NextHop("127.0.0.1", free_port()), back=5.0)
    assert await Delivering(pool, place, "panel.test").one()
    item = await items.get(pool, ME, waiting)
    assert item is not None
    assert item.reason_text.startswith("Your server did not take this mail for 5 days; at last: 127.0.0.1:")
    assert await pool.fetchval("select state from later") == "expired"


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("delete from domains where name = 'mine.test'", "The domain is not served here any more"),
        ("update later set pack = ''", "The body of this mail is lost"),
        ("update later set record = 'garbage', pack = ''", "The body of this mail is lost"),
    ],
)
async def test_what_can_never_be_delivered_ends_in_the_quarantine(
    pool: Any, place: packs.Packs, statement: str, text: str
) -> None:
    waiting = await deferred(pool, place, NextHop("127.0.0.1", 9))
    await pool.execute(statement)
    assert await Delivering(pool, place, "panel.test").one()
    item = await items.get(pool, ME, waiting)
    assert item is not None
    assert item.reason_text.startswith(text)


async def test_only_its_owner_and_the_operator_can_push_it(pool: Any, place: packs.Packs) -> None:
    waiting = await deferred(pool, place, NextHop("127.0.0.1", 9))
    await pool.execute("update later set next_attempt_at = now() + interval '1 hour'")
    for viewer, wrong in ((THEY, waiting), (ME, "x"), (ME, "\x00")):
        assert not await later.push(pool, viewer, wrong)
    assert await pool.fetchval("select next_attempt_at > now() from later")
    assert await later.push(pool, OPERATOR, waiting)
    assert not await pool.fetchval("select next_attempt_at > now() from later")
    await pool.execute("update later set state = 'done'")
    assert not await later.push(pool, ME, waiting)


async def test_the_janitor_delivers_it_and_goes_on_after_a_kill(pool: Any, working: JanitorProcess) -> None:
    """Killed between dot and answer: accepted mail is tried again, a duplicate being the lesser evil."""
    mailbox, at_the_dot = Mailbox(), asyncio.Event()

    class Stuck(Mailbox):
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            at_the_dot.set()
            await asyncio.Event().wait()
            return ""

    async with real(Stuck()) as hop:
        await deferred(pool, working.packs, hop)
        async with asyncio.timeout(30):
            await at_the_dot.wait()
    await asyncio.to_thread(working.kill)
    async with real(mailbox) as hop:
        await point_to(pool, hop)
        await asyncio.to_thread(working.start)
        await until(lambda: pool.fetchval("select state = 'done' from later"))
    assert len(mailbox.mails) == 1
    assert working.metric('control_jobs_total{act="deliver",state="done"}') == 1
