"""The pool of parsers with real processes: killed, frozen, hungry, crowded, left behind; and the corpus through it."""

import asyncio
import base64
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mx import parser as pool
from mx.checks import mime_child
from mx.parser import Parser
from tests.servers import running
from tests.shared import shared_path

PLAIN = b"Subject: =?utf-8?q?h=C3=A4?=\r\n\r\nhello\r\n"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def parser() -> AsyncIterator[Parser]:
    """A pool with the product's bounds."""
    async with Parser() as made:
        yield made


def _mails(name: str) -> Iterator[bytes]:
    """The corpus as it would come over SMTP: CRLF line ends."""
    with tarfile.open(fileobj=io.BytesIO(shared_path(f"corpus/{name}.tar.xz").read_bytes())) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file
            yield file.read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ham", "spam"])
async def test_every_mail_of_the_corpus_is_parsed(parser: Parser, name: str) -> None:
    unchecked, ambiguous, count = [], 0, 0
    for raw in _mails(name):
        message = await parser.parse(raw)
        count += 1
        ambiguous += "mime.ambiguous" in message.defects
        assert message.headers
        if message.unchecked or not message.parts:
            unchecked.append((count, message.unchecked))
    assert not unchecked
    assert ambiguous < count / 50, "two readers that differ about ordinary mail are of no use"


async def test_a_message_is_taken_apart_by_a_process_that_stays(parser: Parser) -> None:
    first = await parser.parse(PLAIN)
    pids = parser.pids
    assert (first.header("subject"), first.parts[0].text, first.unchecked) == (("hä",), "hello\r\n", "")
    assert await parser.parse(PLAIN) == first
    assert parser.pids == pids
    assert len(pids) == 1


async def test_the_memory_of_the_worker_does_not_tire_its_processes(parser: Parser) -> None:
    ballast = b"x" * (2 * mime_child.TIRED_AT_BYTES)
    pids = set()
    for _ in range(3):
        await parser.parse(PLAIN)
        pids |= set(parser.pids)
    assert (len(pids), len(ballast)) == (1, 2 * mime_child.TIRED_AT_BYTES)


async def test_an_empty_message_and_noise_are_messages(parser: Parser) -> None:
    for raw in (b"", b"\r\n", b"\0" * 5000, os.urandom(5000), b"\r\n\r\n\r\n", b":", b"=?=?=?", b"\xff\xfe: x\r\n"):
        message = await parser.parse(raw)
        assert (message.unchecked, message.size_bytes) == ("", len(raw))


async def test_a_process_that_is_killed_in_the_middle_costs_one_message(parser: Parser) -> None:
    await parser.parse(PLAIN)
    (pid,) = parser.pids
    os.kill(pid, signal.SIGSTOP)
    caught = asyncio.create_task(parser.parse(PLAIN))
    await _working(parser)
    os.kill(pid, signal.SIGKILL)
    message = await caught
    assert "died" in message.unchecked
    assert (message.header("subject"), message.parts) == (("hä",), ())
    assert (await parser.parse(PLAIN)).unchecked == ""
    assert pid not in parser.pids


async def test_a_frozen_process_is_given_up_within_the_budget() -> None:
    async with Parser(budget_s=0.5) as parser:
        await parser.parse(PLAIN)
        (pid,) = parser.pids
        os.kill(pid, signal.SIGSTOP)
        async with asyncio.timeout(10):
            message = await parser.parse(PLAIN)
        assert "longer than 0.5 s" in message.unchecked
        assert not running(pid)
        assert (await parser.parse(PLAIN)).unchecked == ""


async def test_a_message_that_takes_too_long_holds_nobody_up_for_ever() -> None:
    """Encoded words in the header of a part cost a reader quadratic time: seconds for these 900 KB."""
    words = b"=?utf-8?q?=C3=A4?= " * 50_000
    slow = b"Subject: slow\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: " + words + b"\r\n\r\nx"
    async with Parser(children=1, budget_s=0.5) as parser:
        await parser.parse(PLAIN)
        hostile, ordinary = await asyncio.gather(parser.parse(slow), parser.parse(PLAIN))
    assert "longer than 0.5 s" in hostile.unchecked
    assert hostile.header("subject") == ("slow",)
    assert ordinary.unchecked == ""


async def test_a_process_that_died_at_rest_costs_one_message_at_most(parser: Parser) -> None:
    await parser.parse(PLAIN)
    (pid,) = parser.pids
    os.kill(pid, signal.SIGKILL)
    while running(pid):  # noqa: ASYNC110 - what another process does gives no event
        await asyncio.sleep(0.01)
    messages = [await parser.parse(PLAIN) for _ in range(2)]
    assert messages[-1].unchecked == ""


async def test_many_at_once_are_all_parsed_by_two(parser: Parser) -> None:
    messages = await asyncio.gather(*(parser.parse(b"Subject: %d\r\n\r\nx" % n) for n in range(100)))
    assert [message.header("subject") for message in messages] == [(str(n),) for n in range(100)]
    assert len(parser.pids) == pool.CHILDREN


async def test_the_second_process_ends_when_nobody_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_S", 0.05)
    async with Parser() as parser:
        await asyncio.gather(*(parser.parse(PLAIN) for _ in range(20)))
        pids = parser.pids
        async with asyncio.timeout(10):
            while sum(running(pid) for pid in pids) > 1:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        assert len(parser.pids) == 1
        assert (await parser.parse(PLAIN)).unchecked == ""


async def test_who_waits_too_long_goes_unchecked() -> None:
    async with Parser(children=1, budget_s=60, wait_s=0.2) as parser:
        await parser.parse(PLAIN)
        os.kill(parser.pids[0], signal.SIGSTOP)
        first = asyncio.create_task(parser.parse(PLAIN))
        await _working(parser)
        message = await parser.parse(PLAIN)
        assert "free within 0.2 s" in message.unchecked
        assert message.header("subject") == ("hä",)
        os.kill(parser.pids[0], signal.SIGCONT)
        assert (await first).unchecked == ""


async def test_a_cancelled_call_leaves_no_answer_to_the_next(parser: Parser) -> None:
    await parser.parse(PLAIN)
    (pid,) = parser.pids
    os.kill(pid, signal.SIGSTOP)
    task = asyncio.create_task(parser.parse(b"Subject: first\r\n\r\n"))
    await _working(parser)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await parser.parse(PLAIN)).header("subject") == ("hä",)
    assert not running(pid)


async def test_a_message_that_needs_too_much_memory_costs_only_itself(
    parser: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    hungry = PLAIN + b"x" * (mime_child.MEMORY_BYTES // 2)
    message = await parser.parse(hungry)
    assert "memory" in message.unchecked
    assert message.header("subject") == ("hä",)
    assert (await parser.parse(PLAIN)).unchecked == ""


async def test_the_largest_message_a_node_takes_is_parsed(parser: Parser) -> None:
    body = base64.encodebytes(bytes(36_000_000)).replace(b"\n", b"\r\n")
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/zip\r\n"
    message = await parser.parse(head + b"Content-Transfer-Encoding: base64\r\n\r\n" + body + b"--b--\r\n")
    assert (message.unchecked, [part.size_bytes for part in message.parts]) == ("", [36_000_000])
    assert await parser.parse(PLAIN)


async def test_leaving_ends_every_process_and_calls_on_their_way_are_answered() -> None:
    async with Parser() as parser:
        await asyncio.gather(*(parser.parse(PLAIN) for _ in range(10)))
        pids = parser.pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        calls = [asyncio.create_task(parser.parse(PLAIN)) for _ in range(5)]
        await _working(parser)
    assert len(pids) == pool.CHILDREN
    assert not any(running(pid) for pid in pids)
    assert all(message.unchecked for message in await asyncio.gather(*calls))
    assert parser.pids == ()


WORKER = """
import asyncio
from mx.parser import Parser

async def main():
    parser = Parser()
    await asyncio.gather(*(parser.parse(b"Subject: x\\r\\n\\r\\n") for _ in range(20)))
    print(*parser.pids, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("freeze", [False, True])
def test_no_process_outlives_a_killed_worker(freeze: bool) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert worker.stdout
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        assert len(pids) == pool.CHILDREN
        for pid in pids if freeze else ():
            os.kill(pid, signal.SIGSTOP)
    finally:
        worker.kill()
        worker.communicate()
    _until(lambda: not any(running(pid) for pid in pids))


async def test_a_process_is_small(parser: Parser) -> None:
    """A node of two workers has 400 MB; these must be a small part of it."""
    await parser.parse(PLAIN)
    status = await asyncio.to_thread(Path(f"/proc/{parser.pids[0]}/status").read_text)
    anonymous_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
    assert anonymous_kb < 30_000


async def _working(parser: Parser) -> None:
    """Return when every process that can work has been handed a message: the pool rests no more."""
    while parser._idle:  # noqa: ASYNC110 - the pool tells nobody
        await asyncio.sleep(0)


def _until(done: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
