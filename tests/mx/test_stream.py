"""The connection below the commands: time, limits, TLS, clients that talk early or never read."""

import asyncio
import socket
import ssl
from pathlib import Path

from mx.filter import PASS, Filter, Seen, Stage, Tools, Verdict, refuse
from syncd.config import SmtpLimits
from tests.certificates import server_context
from tests.mx.client import Client, mail, until
from tests.mx.neighbours import FILTERS, Known, Words, running, sections
from tests.nexthops import Mailbox, real


async def test_an_idle_client_is_sent_away() -> None:
    async with running([], limits=SmtpLimits(idle_s=0.1)) as front, Client(front.port) as client:
        assert await client.reply() == "421 4.4.2 Idle for too long, closing"
        assert await client.reply() == ""


async def test_a_client_that_never_reads_is_cut() -> None:
    async with running([], limits=SmtpLimits(idle_s=0.5, commands=10_000_000)) as front:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", front.port))
        flood = asyncio.create_task(loop.sock_sendall(sock, b"NOOP\r\n" * 2_000_000))
        await until(lambda: front.reception.open_connections == 1)
        await until(lambda: front.reception.open_connections == 0, within_s=15)
        flood.cancel()
        sock.close()


async def test_connections_over_the_limit_are_told_so() -> None:
    async with running([], limits=SmtpLimits(connections_per_network=1)) as front, Client(front.port) as first:
        async with Client(front.port) as second:
            assert second.banner.startswith("421 4.7.0 Too many connections")
        assert (await first.say("NOOP")).startswith("250")
        first.writer.close()
        await until(lambda: front.reception.open_connections == 0)
        async with Client(front.port) as third:
            assert third.banner.startswith("220")


async def test_a_ban_names_itself() -> None:
    async with running([], limits=SmtpLimits(errors_per_minute=5)) as front:
        async with Client(front.port) as client:
            for _ in range(6):
                assert (await client.say("FLURB")).startswith("500")
        async with Client(front.port) as client:
            assert client.banner == "421 4.7.0 Too many errors from 127.0.0.1, banned for 30 s"


async def _look(seen: Seen, settings: Words, tools: Tools) -> bool:
    return seen.talked_early


def _judge(facts: bool, settings: Words) -> Verdict:
    return refuse("Talked early") if facts else PASS


EARLY_TALKER = Filter("friend", "Did it talk early?", Words, stage=Stage.CONNECT, look=_look, judge=_judge)


async def test_an_early_talker_is_noted_for_the_filters() -> None:
    mailbox = Mailbox()
    async with real(mailbox) as hop:
        policy = Known("strict.test", (hop,), sections())
        filters = (EARLY_TALKER, *FILTERS[1:])
        async with running([policy], filters=filters, greet_delay_s=0.2) as front:
            client = Client(front.port)
            client.reader, client.writer = await asyncio.open_connection("127.0.0.1", front.port)
            client.write(b"EHLO client.test\r\n")
            assert (await client.reply()).startswith("220")
            assert (await client.reply()).startswith("250")
            client._greeted = True
            assert (await client.send(mail("hello"), to=["a@strict.test"])).startswith("550")
            async with Client(front.port) as patient:
                assert (await patient.send(mail("hello"), to=["a@strict.test"])).startswith("250")


async def test_tls_shows_in_the_received_field(tmp_path: Path) -> None:
    mailbox = Mailbox()
    async with real(mailbox) as hop:
        policy = Known("strict.test", (hop,), sections())
        async with running([policy], tls=server_context(tmp_path)) as front, Client(front.port) as client:
            await client.hello()
            assert (await client.say("STARTTLS")).startswith("220")
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            await client.writer.start_tls(context)
            client._greeted = False
            assert (await client.send(mail("hello"), to=["a@strict.test"])).startswith("250")
    assert b" with ESMTPS id " in mailbox.mails[0][2]
    assert b"(using TLSv1.3 with cipher " in mailbox.mails[0][2]


async def test_a_large_message_is_relayed_untouched() -> None:
    mailbox = Mailbox()
    message = b"Subject: large\r\n\r\n" + (b"0123456789" * 10 + b"\r\n.dots\r\n") * 40_000
    async with (
        real(mailbox) as hop,
        running([Known("strict.test", (hop,), sections())]) as front,
        Client(front.port) as client,
    ):
        assert (await client.send(message, to=["a@strict.test"])).startswith("250")
    assert mailbox.mails[0][2].endswith(message)
