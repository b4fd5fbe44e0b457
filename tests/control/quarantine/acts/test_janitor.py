"""The janitor as a process, real PostgreSQL, real next hops: what it delivers, how it says what went wrong."""

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from control.delivery import letter
from control.quarantine import items, jobs, release
from control.quarantine.release import Job
from syncd.layers import NextHop
from tests.control.api.conftest import until
from tests.control.quarantine.acts.conftest import ME, MINE, THEIRS
from tests.control.quarantine.acts.janitors import JanitorProcess
from tests.control.quarantine.rows import keep, pack, record_of
from tests.nexthops import Mailbox, answers, real, scripted
from tests.servers import Postgres, free_port

RAW = b"Subject: Cheap zebras\r\nX-Test: 1\r\n\r\n.a dot, \xe4 bytes\r\nlast line without an end"
WITHIN_S = 30.0
LASTING = ThreadPoolExecutor(1)
"""PostgreSQL ends with the thread that started it: this one lasts as long as the session."""


@pytest.fixture
async def janitor(pool: Any, database: str, tmp_path: Path) -> AsyncIterator[JanitorProcess]:
    """A janitor that is not started yet."""
    made = JanitorProcess(database, tmp_path)
    yield made
    await asyncio.to_thread(made.kill)


@pytest.fixture
async def working(janitor: JanitorProcess) -> JanitorProcess:
    """A janitor on duty."""
    await asyncio.to_thread(janitor.start)
    return janitor


async def kept(pool: Any, janitor: JanitorProcess, hop: NextHop | None, raw: bytes = RAW, **fields: Any) -> str:
    """A kept mail for me@mine.test, whose domain has this next hop."""
    if hop is not None:
        hops = f'[{{"host": "{hop.host}", "port": {hop.port}}}]'
        await pool.execute("update domains set next_hops = $1::text::jsonb", hops)
    place = (await asyncio.to_thread(pack, janitor.packs, raw))[0]
    record = record_of([("me@mine.test", MINE), ("they@theirs.test", THEIRS)], body_bytes=len(raw), **fields)
    return (await keep(pool, record, pack=place.pack, offset=place.offset, size=place.size))[0]


async def ended(pool: Any, job_id: str) -> Job:
    """The job, once it has ended."""

    async def has_ended() -> bool:
        found = await release.job(pool, ME, job_id)
        assert found is not None
        return not found.is_open

    await until(has_ended, WITHIN_S)
    found = await release.job(pool, ME, job_id)
    assert found is not None
    return found


async def says(janitor: JanitorProcess, trouble: str) -> bool:
    """Whether `/ready` says this, or with "" that it is ready."""
    said = await asyncio.to_thread(janitor.trouble)
    return trouble in said if trouble else not said


async def released(pool: Any, item: str, **options: Any) -> Job:
    """Ask for it and wait for its end."""
    return await ended(pool, await release.request(pool, ME, item, options))


async def test_a_released_mail_arrives_to_the_byte_for_its_recipient_alone(pool: Any, working: JanitorProcess) -> None:
    mailbox = Mailbox()
    async with real(mailbox) as hop:
        item = await kept(pool, working, hop)
        job = await released(pool, item)
        assert (job.state, job.outcome) == ("done", f"delivered: 250 2.0.0 taken from 127.0.0.1:{hop.port}")
    (sender, recipients, content), = mailbox.mails  # fmt: skip
    assert (sender, recipients) == ("ann@sender.test", ("me@mine.test",))
    trace = b"Received: from client.sender.test\r\n\tby mx1.test; now\r\n"
    assert content.startswith(trace)
    assert content.endswith(RAW + b"\r\n")
    line = content[len(trace) : -len(RAW) - 2].decode()
    found = re.fullmatch(rf"X-Mxfleet-Released: {item}; sha256=([0-9a-f]{{64}})\r\n", line)
    assert found, line
    secret = await asyncio.to_thread(Path(working.settings.secret_file).read_bytes)
    signed = f"released\n{item}\n".encode() + hashlib.sha256(RAW).digest()
    assert hmac.new(secret, signed, hashlib.sha256).hexdigest() == found[1]
    shown = await items.get(pool, ME, item)
    assert shown is not None
    assert shown.status == "released"
    assert working.metric('control_jobs_total{act="release",state="done"}') == 1


@pytest.mark.parametrize(
    ("said", "state", "outcome"),
    [
        ({"RCPT": "550 5.1.1 no such user"}, "failed", "{hop} said: 550 5.1.1 no such user"),
        ({"RCPT": "450 4.2.0 mailbox busy"}, "failed", "{hop} said: 450 4.2.0 mailbox busy"),
        ({"MAIL": "554 5.7.1 not you"}, "failed", "{hop} said: 554 5.7.1 not you"),
        ({"greeting": "421 4.3.2 closing"}, "failed", "{hop} said: 421 4.3.2 closing"),
        ({"DATA": "451 4.3.0 later"}, "failed", "{hop} said: 451 4.3.0 later"),
        ({"dot": "554 5.6.0 we do not like it"}, "failed", "{hop} said: 554 5.6.0 we do not like it"),
        ({"dot": "452 4.3.1 disk full"}, "failed", "{hop} said: 452 4.3.1 disk full"),
        ({"dot": None}, "unknown", "the connection to {hop} broke after the mail was sent"),
        ({"dot": "banana"}, "unknown", "the connection to {hop} broke after the mail was sent"),
        ({"RCPT": None}, "failed", "{hop} does not answer"),
    ],
    ids=str,
)
async def test_what_the_server_said_is_what_is_told(
    pool: Any, working: JanitorProcess, said: dict[str, str | None], state: str, outcome: str
) -> None:
    async with scripted(answers(**said)) as hop:
        item = await kept(pool, working, hop)
        job = await released(pool, item)
        assert (job.state, job.outcome[: len(outcome) - 5 + len(f"127.0.0.1:{hop.port}")]) == (
            state,
            outcome.format(hop=f"127.0.0.1:{hop.port}"),
        )
    shown = await items.get(pool, ME, item)
    assert shown is not None
    assert shown.status == "kept"


async def test_a_server_that_is_down_is_tried_and_named(pool: Any, working: JanitorProcess) -> None:
    port = free_port()
    job = await released(pool, await kept(pool, working, NextHop("127.0.0.1", port)))
    assert job.state == "failed"
    assert job.outcome.startswith(f"127.0.0.1:{port} does not answer: ")


async def test_a_server_that_puts_off_once_gets_it_once(pool: Any, working: JanitorProcess) -> None:
    mailbox = Mailbox(at_rcpt={"me@mine.test": "450 4.2.0 greylisted"})
    async with real(mailbox) as hop:
        made = await release.request(pool, ME, await kept(pool, working, hop), {})
        await until(lambda: pool.fetchval("select outcome like '%greylisted; trying again%' from jobs"))
        mailbox.at_rcpt.clear()
        assert (await ended(pool, made)).state == "done"
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize(
    ("statement", "outcome"),
    [
        ("delete from domains where name = 'mine.test'", "mine.test is not served here any more"),
        ("update domains set account_id = (select max(id) from accounts)", "mine.test is not served here any more"),
        ("delete from quarantine", "this mail is not in the quarantine any more"),
        ("update quarantine set pack = ''", "the body of this mail is lost"),
        ("update quarantine set pack_offset = 7", "the body of this mail is lost"),
        (
            "update quarantine set recipient = E'a@mine.test\\r\\nRCPT TO:<b@mine.test>'",
            "this address cannot be written",
        ),
        ("delete from mail_records", "delivered: 250"),
    ],
)
async def test_what_changed_between_click_and_delivery(
    pool: Any, janitor: JanitorProcess, statement: str, outcome: str
) -> None:
    mailbox = Mailbox()
    async with real(mailbox) as hop:
        made = await release.request(pool, ME, await kept(pool, janitor, hop), {})
        await pool.execute(statement)
        await asyncio.to_thread(janitor.start)
        job = await ended(pool, made)
    assert job.outcome.startswith(outcome)
    assert job.state == ("done" if "delivered" in outcome else "failed")
    assert len(mailbox.mails) == ("delivered" in outcome)


async def test_many_releases_from_two_sessions_each_arrive_once(pool: Any, working: JanitorProcess) -> None:
    mailbox = Mailbox()
    async with real(mailbox) as hop:
        kept_items = [await kept(pool, working, hop, b"X-Test: %d\r\n\r\nx\r\n" % n) for n in range(30)]
        clicks = [release.request(pool, ME, item, {}) for item in kept_items for _ in range(3)]
        made = set(await asyncio.gather(*clicks))
        states = [(await ended(pool, each)).state for each in made]
    assert states == ["done"] * 30
    tests = [re.search(rb"X-Test: (\d+)", content) for _, _, content in mailbox.mails]
    assert sorted(int(each[1]) for each in tests if each) == list(range(30))


async def test_a_mail_that_was_cut_by_the_janitors_death_is_unknown_and_never_sent_again(
    pool: Any, working: JanitorProcess
) -> None:
    """The server has the whole mail and does not answer; the janitor dies; its successor leaves the mail alone."""
    dots = 0
    has_it = asyncio.Event()

    async def never_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dots
        writer.write(b"220 hop\r\n")
        while line := await reader.readline():
            writer.write(b"354 go\r\n" if line[:4].upper() == b"DATA" else b"250 ok\r\n")
            if line[:4].upper() == b"DATA":
                await reader.readuntil(b"\r\n.\r\n")
                dots += 1
                has_it.set()
                await reader.read()

    async with scripted(never_answers) as hop:
        item = await kept(pool, working, hop)
        made = await release.request(pool, ME, item, {})
        async with asyncio.timeout(WITHIN_S):
            await has_it.wait()
        await asyncio.to_thread(working.kill)
        await asyncio.to_thread(working.start)
        job = await ended(pool, made)
        assert (job.state, job.outcome) == ("unknown", jobs.CUT)
        assert await release.request(pool, ME, item, {}) == made
        again = await kept(pool, working, hop)
        await release.request(pool, ME, again, {})
        has_it.clear()
        async with asyncio.timeout(WITHIN_S):
            await has_it.wait()
    assert dots == 2


async def test_a_janitor_that_is_told_to_stop_finishes_the_dialogue(pool: Any, working: JanitorProcess) -> None:
    mailbox, at_the_dot, go_on = Mailbox(), asyncio.Event(), asyncio.Event()

    class Slow(Mailbox):
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            at_the_dot.set()
            await go_on.wait()
            return await mailbox.handle_DATA(server, session, envelope)

    async with real(Slow()) as hop:
        made = await release.request(pool, ME, await kept(pool, working, hop), {})
        async with asyncio.timeout(WITHIN_S):
            await at_the_dot.wait()
        stopping = asyncio.create_task(asyncio.to_thread(working.stop))
        await asyncio.sleep(0.2)
        go_on.set()
        assert await stopping == 0
    found = await release.job(pool, ME, made)
    assert found is not None
    assert found.state == "done"
    assert len(mailbox.mails) == 1


async def test_of_two_janitors_one_works_and_the_other_takes_over(
    pool: Any, database: str, working: JanitorProcess, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    second = JanitorProcess(database, tmp_path / "second")
    try:
        await asyncio.to_thread(second.start, ready=False)
        await until(lambda: says(second, "another janitor works"))
        await asyncio.to_thread(working.kill)
        await until(lambda: says(second, ""))
    finally:
        await asyncio.to_thread(second.kill)


async def test_it_waits_for_a_database_that_is_away_and_goes_on(
    pool: Any, working: JanitorProcess, postgres: Postgres
) -> None:
    mailbox = Mailbox()
    async with real(mailbox) as hop:
        item = await kept(pool, working, hop)
        await pool.expire_connections()
        await asyncio.get_running_loop().run_in_executor(LASTING, postgres.stop)
        try:
            await until(lambda: says(working, "PostgreSQL: "))
        finally:
            await asyncio.get_running_loop().run_in_executor(LASTING, postgres.start)
        job = await released(pool, item)
    assert job.state == "done"
    assert len(mailbox.mails) == 1
    assert not working.events("release failed")


async def test_without_its_secret_it_says_so(janitor: JanitorProcess) -> None:
    await asyncio.to_thread(Path(janitor.settings.secret_file).unlink)
    await asyncio.to_thread(janitor.start, ready=False)
    assert await asyncio.to_thread(janitor.exit_status) != 0
    assert "secret_file" in janitor.log


def test_a_mail_without_its_record_is_sent_without_trace() -> None:
    plain = letter("", "ä@mine.test", b"x: \xe4\r\n", None)
    assert (plain.smtputf8, plain.eight_bit, b"".join(plain.message)) == (True, True, b"x: \xe4\r\n")
    record = replace(record_of([]), smtputf8=True)
    assert letter("a@b.test", "c@d.test", b"", record).smtputf8
