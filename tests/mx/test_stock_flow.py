"""Flow, errors, TLS, limits, the end: what the stock class of aiosmtpd 1.4.6 gets wrong and ours does not."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from syncd.config import SmtpLimits
from tests.certificates import server_context
from tests.mx.client import Client, mail, until
from tests.mx.neighbours import Known, Running, running, sections
from tests.mx.stock import Taking, stock
from tests.nexthops import Mailbox, real


@contextlib.asynccontextmanager
async def ours(mailbox: Mailbox, **options: object) -> AsyncIterator[Running]:
    """Our front with one domain whose next hop is the mailbox."""
    async with real(mailbox) as hop, running([Known("strict.test", (hop,), sections())], **options) as front:  # type: ignore[arg-type]
        yield front


async def _upto_data(client: Client) -> None:
    await client.hello()
    for command in ("MAIL FROM:<ann@sender.test>", "RCPT TO:<a@strict.test>", "DATA"):
        assert (await client.say(command))[0] in "23"


class Slow(Taking):
    """A handler that is still at work when the client leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go_on, self.cancelled = asyncio.Event(), asyncio.Event(), False

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Wait, as a relay does."""
        self.began.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return await super().handle_DATA(server, session, envelope)


@pytest.mark.parametrize("leave", ["half_close", "reset"])
async def test_stock_stops_the_handler_when_the_client_leaves_after_its_dot(leave: str) -> None:
    handler = Slow()
    async with stock(handler) as port, Client(port) as client:
        await _upto_data(client)
        client.write(mail("hello") + b".\r\n")
        await handler.began.wait()
        getattr(client, leave)()
        await until(lambda: handler.cancelled)
    assert handler.contents == []


@pytest.mark.parametrize("leave", ["half_close", "reset"])
async def test_ours_takes_the_mail_whose_client_has_left(leave: str) -> None:
    mailbox = Mailbox(gate=asyncio.Event())
    async with ours(mailbox) as front, Client(front.port) as client:
        await _upto_data(client)
        client.write(mail("hello") + b".\r\n")
        await until(lambda: mailbox.waiting == 1)
        getattr(client, leave)()
        if leave == "reset":
            await until(lambda: front.reception.open_connections == 0)
        assert mailbox.gate
        mailbox.gate.set()
        await until(lambda: front.ledger.in_flight == 0)
        assert len(mailbox.mails) == 1
        assert front.ledger.drift == 0


async def test_stock_tells_the_error_for_good_and_keeps_the_recipients() -> None:
    handler = Taking()
    async with stock(handler) as port, Client(port) as client:
        await client.hello()
        await client.say("MAIL FROM:<ann@sender.test>")
        await client.say("RCPT TO:<a@strict.test>")
        assert (
            await client.say("RCPT TO:<broken@strict.test>") == "500 Error: (RuntimeError) secret detail of the store"
        )
        assert (await client.say("DATA")).startswith("354")


async def test_ours_says_451_tells_nothing_and_begins_anew() -> None:
    async with ours(Mailbox()) as front, Client(front.port) as client:
        await client.hello()
        await client.say("MAIL FROM:<ann@sender.test>")
        await client.say("RCPT TO:<a@strict.test>")
        assert await client.say("RCPT TO:<a@broken.test>") == "451 4.3.0 Try again later"
        assert (await client.say("DATA")).startswith("503")
        assert (await client.say("RCPT TO:<a@strict.test>")).startswith("503")
        assert front.ledger.drift == 0


async def _offered(port: int) -> tuple[list[str], str]:
    """What EHLO offers after STARTTLS, and the reply to a second STARTTLS."""
    async with Client(port) as client:
        await client.hello()
        assert (await client.say("STARTTLS")).startswith("220")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await client.writer.start_tls(context)
        client.write(b"EHLO client.test\r\n")
        offered = []
        while not offered or offered[-1][3:4] == "-":
            offered.append((await client.reader.readline()).decode().rstrip())
        return [line[4:] for line in offered], await client.say("STARTTLS")


async def test_stock_offers_auth_and_a_second_starttls(tmp_path: Path) -> None:
    async with stock(Taking(), tls_context=server_context(tmp_path)) as port:
        offered, again = await _offered(port)
    assert "AUTH LOGIN PLAIN" in offered
    assert again.startswith("220")


async def test_ours_offers_neither(tmp_path: Path) -> None:
    async with running([], tls=server_context(tmp_path)) as front:
        offered, again = await _offered(front.port)
    assert not [line for line in offered if line.startswith(("AUTH", "STARTTLS"))]
    assert again.startswith("503")


async def test_stock_admits_anybody_without_end_and_counts_only_unknown_commands() -> None:
    async with stock(Taking()) as port, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(port)) for _ in range(50)]
        assert all(client.banner.startswith("220") for client in clients)
        for _ in range(50):
            assert (await clients[0].say("RCPT TO:<x")).startswith("503")


async def test_ours_bounds_connections_errors_and_idle_commands() -> None:
    limits = SmtpLimits(connections_per_network=3, errors=5, commands=20, recipients=100)
    async with running([], limits=limits) as front, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(front.port)) for _ in range(4)]
        assert [client.banner[:3] for client in clients] == ["220", "220", "220", "421"]
        replies = [await clients[0].say("RCPT TO:<x") for _ in range(6)]
        assert [reply[:3] for reply in replies] == ["503"] * 5 + ["421"]
        replies = [await clients[1].say("NOOP") for _ in range(121)]
        assert [reply[:3] for reply in replies] == ["250"] * 120 + ["421"]


async def _trickle(port: int, *, pause_s: float, pieces: int) -> str:
    async with Client(port) as client:
        await _upto_data(client)
        try:
            for _ in range(pieces):
                if not client.writer.is_closing():
                    client.write(b"a: b\r\n")
                await asyncio.sleep(pause_s)
            if not client.writer.is_closing():
                client.write(b".\r\n")
            return await client.reply()
        except ConnectionError:
            return ""


async def test_stock_cuts_a_message_that_flows_without_a_word() -> None:
    async with stock(Taking(), timeout=0.3) as port:
        assert await _trickle(port, pause_s=0.1, pieces=8) == ""


async def test_ours_takes_what_flows_and_sends_away_what_is_too_slow() -> None:
    mailbox = Mailbox()
    async with ours(mailbox, limits=SmtpLimits(idle_s=0.3, bytes_per_s=1)) as front:
        assert (await _trickle(front.port, pause_s=0.1, pieces=8)).startswith("250")
    slow = SmtpLimits(idle_s=0.4, bytes_per_s=1_000_000, message_grace_s=0.2)
    async with ours(mailbox, limits=slow) as front:
        assert (await _trickle(front.port, pause_s=0.1, pieces=8)).startswith("421 4.4.2 The message comes too slowly")
        await until(lambda: front.ledger.in_flight == 0)
        assert front.ledger.drift == 0


class Trusting(Taking):
    """A handler that lets every PROXY header pass: the stock class knows no list of proxies."""

    async def handle_PROXY(self, server: SMTP, session: Session, envelope: Envelope, proxy: object) -> bool:
        """Believe it."""
        session.peer = str(proxy.src_addr)  # type: ignore[attr-defined]
        self.senders.append(session.peer)
        return True


HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n"


async def test_stock_believes_a_proxy_header_from_anybody() -> None:
    handler = Trusting()
    async with stock(handler, proxy_protocol_timeout=5) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEADER)
        assert (await reader.readline()).startswith(b"220")
        writer.close()
    assert handler.senders == ["192.0.2.7"]


async def test_ours_believes_listed_proxies_only() -> None:
    mailbox = Mailbox()
    async with ours(mailbox) as front, Client(front.port) as client:
        assert (await client.say(HEADER.rstrip())).startswith("500")
    async with ours(mailbox, proxies=("127.0.0.0/8",)) as front:
        client = Client(front.port)
        client.reader, client.writer = await asyncio.open_connection("127.0.0.1", front.port)
        client.write(HEADER)
        assert (await client.reply()).startswith("220")
        assert (await client.send(mail("hello"), to=["a@strict.test"])).startswith("250")
        client.writer.close()
        assert front.spool.events[0].client_ip == "192.0.2.7"
    assert b"Received: from client.test ([192.0.2.7])" in mailbox.mails[0][2]


async def test_stock_ends_without_telling_anybody() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Taking(), hostname="stock.test", loop=loop), "127.0.0.1", 0)
    async with Client(server.sockets[0].getsockname()[1]) as client:
        server.close()
        assert (await client.say("NOOP")).startswith("250")  # had it been told, its 421 would have come first


async def test_ours_tells_everybody_who_waits() -> None:
    async with running([]) as front, Client(front.port) as client:
        for session in front.front.sessions:
            session.shut_down(amid_mail=False)
        assert (await client.reply()).startswith("421 4.3.2 Shutting down")
        assert await client.reply() == ""
