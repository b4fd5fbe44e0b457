"""The message: what the stock class of aiosmtpd 1.4.6 gets wrong and ours does not."""

import asyncio
import os
import signal
import tracemalloc

import pytest
from aiosmtpd.handlers import Message as EmailHandler

from mx.parser import Parser
from syncd.config import SmtpLimits
from tests.mx.client import Client, mail, until
from tests.mx.neighbours import Known, running, sections
from tests.mx.stock import Taking, stock
from tests.nexthops import Mailbox, real

PIECE = 64 * 1024
LIMIT = 4 * 1024 * 1024


async def _grown(port: int, content: bytes, size: int, *, ending: bytes = b".\r\n") -> tuple[float, str]:
    """Most memory that Python objects took while `size` bytes of `content` were sent as one mail, over that size."""
    piece = content * (PIECE // len(content))
    async with Client(port) as client:
        await client.hello()
        for command in ("MAIL FROM:<ann@sender.test>", "RCPT TO:<a@strict.test>", "DATA"):
            await client.say(command)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        try:
            for _ in range(size // len(piece)):
                client.write(piece)
                await client.writer.drain()
            client.write(ending)
            reply = await client.reply() if ending else ""
            return (tracemalloc.get_traced_memory()[1] - before) / size, reply
        finally:
            tracemalloc.stop()


async def test_stock_takes_many_times_the_size_of_empty_lines() -> None:
    async with stock(Taking()) as port:
        grown, reply = await _grown(port, b"\r\n", LIMIT // 32)
    assert reply.startswith("250")
    assert grown > 20


async def test_stock_holds_a_line_without_end_whatever_its_limit() -> None:
    async with stock(Taking(), data_size_limit=PIECE) as port:
        grown, reply = await _grown(port, b"x", LIMIT, ending=b"\r\n.\r\n")
    assert reply.startswith("500")
    assert grown > 1


@pytest.mark.parametrize("content", [b"\r\n", b"x", b"..\r\n", b"\r", b"\n", b"a: b\r\n", b"\r\n.x", b"\0"])
async def test_ours_holds_three_times_the_size_at_most(content: bytes) -> None:
    async with running([Known("strict.test", (), sections("off"))]) as front:
        grown, _ = await _grown(front.port, content, LIMIT, ending=b"\r\n.\r\n")
        await until(lambda: front.front.room.held_bytes == 0)
    assert grown <= 3


@pytest.mark.parametrize("content", [b"\r\n", b"x", b"\r"])
async def test_ours_holds_little_of_what_it_will_not_take(content: bytes) -> None:
    async with (
        running([Known("strict.test", (), sections("off"))], max_message_bytes=3 * PIECE) as front,
        Client(front.port) as client,
    ):
        await client.hello()
        for command in ("MAIL FROM:<ann@sender.test>", "RCPT TO:<a@strict.test>", "DATA"):
            await client.say(command)
        piece = content * (PIECE // len(content))
        for _ in range(5):
            client.write(piece)
            await client.writer.drain()
            assert front.front.room.held_bytes <= 5 * PIECE
        client.write(b"\r\n.\r\n")
        assert (await client.reply()).startswith("552 5.3.4")
        assert front.front.room.held_bytes == 0


async def test_a_large_message_waits_on_disk_and_comes_back_whole() -> None:
    mailbox = Mailbox()
    message = b"Subject: large\r\n\r\n" + b"".join(b"%07d.\r\n" % n for n in range(1_500_000))
    async with (
        real(mailbox) as hop,
        running([Known("strict.test", (hop,), sections("off"))]) as front,
        Client(front.port) as client,
    ):
        await client.hello()
        for command in ("MAIL FROM:<ann@sender.test>", "RCPT TO:<a@strict.test>", "DATA"):
            await client.say(command)
        for start in range(0, len(message), 16 * PIECE):
            client.write(message[start : start + 16 * PIECE])
            await client.writer.drain()
            assert front.front.room.held_bytes < 6 * 1024 * 1024
        client.write(b".\r\n")
        assert (await client.reply()).startswith("250")
        await until(lambda: front.front.room.held_bytes == 0)
    assert mailbox.mails[0][2].endswith(message)


async def test_a_disk_that_takes_nothing_is_452_and_the_session_goes_on() -> None:
    limits = SmtpLimits(message_memory_bytes=1024 * 1024)
    mailbox = Mailbox()
    async with real(mailbox) as hop:
        domain = Known("strict.test", (hop,), sections("off"))
        async with running([domain], limits=limits, spill_dir="/dev/null") as front, Client(front.port) as client:
            reply = await client.send(b"Subject: x\r\n\r\n" + b"x" * LIMIT + b"\r\n", to=["a@strict.test"])
            assert reply.startswith("452 4.3.1")
            assert (await client.send(mail("hello"), to=["a@strict.test"])).startswith("250")
            await until(lambda: front.front.room.held_bytes == 0)
            assert front.ledger.drift == 0
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize("length", [1500, 131_072, 400_000])
async def test_long_lines(length: int) -> None:
    message = b"Subject: long\r\n\r\n" + b"x" * length + b"\r\n"
    async with stock(Taking()) as port, Client(port) as client:
        assert (await client.send(message, to=["a@strict.test"])).startswith("500 Line too long")
    mailbox = Mailbox()
    async with (
        real(mailbox) as hop,
        running([Known("strict.test", (hop,), sections())]) as front,
        Client(front.port) as client,
    ):
        assert (await client.send(message, to=["a@strict.test"])).startswith("250")
    assert mailbox.mails[0][2].endswith(message)


BARE = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\n.\r",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\r.\n",
    b"a\nb",
    b"a\rb",
    b"\r\r\n",
]


@pytest.mark.parametrize("bare", BARE)
async def test_bare_newlines(bare: bytes) -> None:
    message = b"Subject: x\r\n\r\nfirst" + bare + b"MAIL FROM:<evil@x.test>\r\n"
    handler = Taking()
    async with stock(handler) as port, Client(port) as client:
        client.write(b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@strict.test>\r\nDATA\r\n" + message + b".\r\n")
        await until(lambda: bool(handler.contents))
    assert b"\n" in handler.contents[0].replace(b"\r\n", b"") or b"\r" in handler.contents[0].replace(b"\r\n", b"")
    mailbox = Mailbox()
    async with real(mailbox) as hop:
        for setting, code in (("refuse", "550 5.6.11"), ("normalise", "250")):
            domain = Known("strict.test", (hop,), sections("off"))
            async with running([domain], bare_newlines=setting) as front, Client(front.port) as client:
                await client.hello()
                for command in ("MAIL FROM:<ann@sender.test>", "RCPT TO:<a@strict.test>", "DATA"):
                    await client.say(command)
                client.write(message + b".\r\n")
                assert (await client.reply()).startswith(code)
    assert len(mailbox.mails) == 1
    reached = mailbox.mails[0][2].replace(b"\r\n", b"")
    assert b"\n" not in reached
    assert b"\r" not in reached


HOSTILE = b"Subject: x\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n" * 40_000


class Reading(EmailHandler):  # type: ignore[misc]
    """aiosmtpd's own handler that parses each mail, where it runs: on the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.loop_was_running_it = False

    def handle_message(self, message: object) -> None:
        """Note whether the loop waits meanwhile."""
        self.loop_was_running_it = asyncio.get_running_loop().is_running()


async def test_stock_parses_on_the_event_loop() -> None:
    handler = Reading()
    async with stock(handler) as port, Client(port) as client:
        assert (await client.send(HOSTILE, to=["a@strict.test"])).startswith("250")
    assert handler.loop_was_running_it


async def test_ours_answers_others_while_a_message_is_being_parsed_and_ends_a_parser_over_its_budget() -> None:
    mailbox = Mailbox()
    async with (
        Parser(budget_s=1.0) as parser,
        real(mailbox) as hop,
        running([Known("strict.test", (hop,), sections())], parser=parser) as front,
        Client(front.port) as sender,
        Client(front.port) as other,
    ):
        await parser.parse(mail("warm"))
        (pid,) = parser.pids
        os.kill(pid, signal.SIGSTOP)  # a message that takes for ever
        await sender.hello()
        for command in ("MAIL FROM:<ann@sender.test>", "RCPT TO:<a@strict.test>", "DATA"):
            await sender.say(command)
        sender.write(HOSTILE + b".\r\n")
        reply = asyncio.create_task(sender.reply())
        await until(lambda: any(session.envelope.is_taken for session in front.front.sessions))
        assert (await other.say("NOOP")).startswith("250")
        assert not reply.done()
        assert (await reply).startswith("250")
        assert pid not in parser.pids
