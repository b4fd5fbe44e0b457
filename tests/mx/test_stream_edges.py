"""The connection at its edges: handshakes that break, floods in one piece, clients gone at every moment."""

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from mx.filter import Filter, Seen, Stage, Tools, Verdict, refuse
from syncd.config import SmtpLimits
from tests.certificates import server_context
from tests.mx.client import Client, mail, until
from tests.mx.neighbours import FILTERS, Known, Running, Words, running, sections


async def _nobody_left(front: Running) -> None:
    await until(lambda: not front.reception.open_connections and not len(front.front.sessions))
    assert front.ledger.in_flight == front.ledger.drift == 0


@pytest.mark.parametrize(
    "sent", [b"garbage\r\n" * 20, b"\x16\x03\x01\xff\xff", b"EHLO c\r\nMAIL FROM:<a@b.test>\r\n", b""]
)
async def test_a_handshake_that_breaks_leaves_nothing(tmp_path: Path, sent: bytes) -> None:
    async with running([], tls=server_context(tmp_path)) as front, Client(front.port) as client:
        await client.hello()
        assert (await client.say("STARTTLS")).startswith("220")
        client.write(sent)
        client.half_close()
        with contextlib.suppress(ConnectionError):
            while await client.reader.read(4096):
                pass
        await _nobody_left(front)


async def test_a_handshake_that_stalls_is_cut(tmp_path: Path) -> None:
    limits = SmtpLimits(idle_s=0.3)
    async with running([], tls=server_context(tmp_path), limits=limits) as front, Client(front.port) as client:
        await client.hello()
        assert (await client.say("STARTTLS")).startswith("220")
        await _nobody_left(front)


async def test_a_tls_client_that_vanishes_leaves_nothing(tmp_path: Path) -> None:
    async with running([Known("strict.test", (), sections())], tls=server_context(tmp_path)) as front:
        client = Client(front.port)
        await client.open()
        await client.hello()
        await client.say("STARTTLS")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await client.writer.start_tls(context)
        client._greeted = False
        await client.hello()
        await client.say("MAIL FROM:<a@b.test>")
        await client.say("RCPT TO:<a@strict.test>")
        client.writer.transport.abort()
        await _nobody_left(front)


async def test_a_flood_of_commands_in_one_piece_is_answered_to_the_last() -> None:
    limits = SmtpLimits(commands=100_000)
    async with running([], limits=limits) as front, Client(front.port) as client:
        client.write(b"NOOP\r\n" * 50_000 + b"QUIT\r\n")
        lines = await client.rest()
        assert len(lines) == 50_001
        assert lines[-1].startswith("221")
        await _nobody_left(front)


async def test_others_are_answered_amid_a_flood() -> None:
    limits = SmtpLimits(commands=1_000_000)
    async with running([], limits=limits) as front, Client(front.port) as flooding, Client(front.port) as other:
        flooding.write(b"HELP\r\n" * 100_000)
        await flooding.reply()
        before = next(one for one in front.front.sessions if one.session.commands > 1)  # type: ignore[attr-defined]
        assert (await other.say("NOOP")).startswith("250")
        assert before.session.commands < 100_000  # type: ignore[attr-defined]


async def test_a_client_that_leaves_before_the_banner_leaves_nothing() -> None:
    async with running([], greet_delay_s=0.1) as front:
        for data in (b"", b"EHLO c\r\n"):
            _, writer = await asyncio.open_connection("127.0.0.1", front.port)
            writer.write(data)
            await until(lambda: front.reception.open_connections == 1)
            writer.transport.abort()
            await _nobody_left(front)


async def _forever(seen: Seen, settings: Words, tools: Tools) -> None:
    await asyncio.Event().wait()


def _never(facts: None, settings: Words) -> Verdict:
    return refuse("unsure")


STUCK = Filter("early", "Does it end?", Words, stage=Stage.RCPT, look=_forever, judge=_never, early=True, deadline_s=60)


async def test_a_client_that_leaves_while_its_recipient_is_looked_at_leaves_nothing() -> None:
    filters = (FILTERS[0], STUCK, FILTERS[2])
    async with running([Known("strict.test", (), sections())], filters=filters) as front:
        client = Client(front.port)
        await client.open()
        await client.hello()
        await client.say("MAIL FROM:<a@b.test>")
        client.write(b"RCPT TO:<a@strict.test>\r\n")
        await until(lambda: any(one._task for one in front.front.sessions))  # type: ignore[attr-defined]
        client.reset()
        await _nobody_left(front)


async def test_shutting_down_twice_is_once() -> None:
    async with running([Known("strict.test", (), sections())]) as front, Client(front.port) as client:
        await client.hello()
        await client.say("MAIL FROM:<a@b.test>")
        await client.say("RCPT TO:<a@strict.test>")
        await client.say("DATA")
        for session in front.front.sessions:
            session.shut_down(amid_mail=False)
        for _ in range(2):
            for session in front.front.sessions:
                session.shut_down(amid_mail=True)
        assert await client.rest() == ["421 4.3.2 Shutting down, try again later"]
        client.writer.close()
        await _nobody_left(front)


async def test_our_last_words_reach_a_client_that_goes_on_talking() -> None:
    async with running([]) as front, Client(front.port) as client:
        client.write(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200_000)
        assert await client.rest() == ["554 5.5.1 This is an SMTP server"]
        client.writer.close()
        await _nobody_left(front)


async def test_a_mail_in_single_bytes_is_a_mail() -> None:
    async with running([Known("strict.test", (), sections())]) as front, Client(front.port) as client:
        wire = (
            b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@strict.test>\r\nDATA\r\n"
            + mail("refuse-me")
            + b".\r\nQUIT\r\n"
        )
        for byte in wire:
            client.write(bytes((byte,)))
            await client.writer.drain()
            await asyncio.sleep(0)
        lines = await client.rest()
        assert [line[:3] for line in lines[-3:]] == ["354", "550", "221"]
        assert front.spool.kept() == [("a@strict.test", mail("refuse-me"))]


async def test_a_record_tells_the_opening_and_its_own_transaction() -> None:
    async with running([Known("strict.test", (), sections())]) as front, Client(front.port) as client:
        await client.send(mail("refuse-me one"), to=["first@strict.test"])
        await client.send(mail("refuse-me two"), to=["second@strict.test"])
        told = [line for _, _, line in front.spool.copies[1][0].dialogue]
    assert told[0] == "220 mx1.mxfleet.test ESMTP"
    assert "250 LIMITS RCPTMAX=1000" in told
    assert "RCPT TO:<second@strict.test>" in told
    assert "RCPT TO:<first@strict.test>" not in told


async def test_an_error_of_ours_amid_a_message_obeys_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running([Known("strict.test", (), sections())]) as front, Client(front.port) as client:
        await client.hello()
        for command in ("MAIL FROM:<a@b.test>", "RCPT TO:<a@strict.test>", "DATA"):
            await client.say(command)
        monkeypatch.setattr(front.front.room, "change", lambda by: 1 / 0)
        client.write(b"Subject: x\r\n")
        client.write(b"EHLO c\r\nMAIL FROM:<evil@b.test>\r\nRCPT TO:<a@strict.test>\r\n.\r\n")
        assert await client.rest() == ["451 4.3.0 Try again later"]
        client.writer.close()
        await _nobody_left(front)
        assert [record.sender for record in front.spool.events] == ["a@b.test"]
