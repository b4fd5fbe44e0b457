"""Next hops for tests: a real SMTP server that keeps what it takes, and scripted hostile ones.

They stand for the customer's servers, which lie outside of the product.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from aiosmtpd.smtp import SMTP, Envelope, Session

from syncd.layers import NextHop


@dataclass
class Mailbox:
    """What a next hop took: (sender, recipients, content) of each mail; what it says at RCPT and after the dot."""

    mails: list[tuple[str, tuple[str, ...], bytes]] = field(default_factory=list)
    at_rcpt: dict[str, str] = field(default_factory=dict)
    after_dot: str = "250 2.0.0 taken"
    used_tls: bool = False
    gate: asyncio.Event | None = None
    """While it is not set, nothing is answered after the dot."""
    waiting: int = 0
    """Mails at the gate."""

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Accept, or say what was told."""
        said = self.at_rcpt.get(address, "250 2.1.5 ok")
        if said.startswith("2"):
            envelope.rcpt_tos.append(address)
        return said

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep the mail."""
        self.used_tls = session.ssl is not None
        if self.gate:
            self.waiting += 1
            await self.gate.wait()
        if self.after_dot.startswith("2"):
            content = envelope.content
            assert isinstance(content, bytes)
            self.mails.append((envelope.mail_from or "", tuple(envelope.rcpt_tos), content))
        return self.after_dot

    def recipients(self) -> list[str]:
        """Every recipient of every mail taken."""
        return [recipient for _, recipients, _ in self.mails for recipient in recipients]


@contextlib.asynccontextmanager
async def real(mailbox: Mailbox, *, tls: ssl.SSLContext | None = None, smtputf8: bool = True) -> AsyncIterator[NextHop]:
    """An aiosmtpd server on a free port."""
    loop = asyncio.get_running_loop()

    class Roomy(SMTP):
        line_length_limit = 2**20  # a customer's server that takes long lines, as most do

    def connected() -> SMTP:
        return Roomy(mailbox, hostname="hop.test", enable_SMTPUTF8=smtputf8, tls_context=tls, loop=loop)

    server = await loop.create_server(connected, "127.0.0.1", 0)
    try:
        yield NextHop("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[NextHop]:
    """A server that does whatever the script says with each connection."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield NextHop("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()


def answers(**said: str | None) -> Script:
    """A hop that answers each command by its verb (`dot` after the message, `greeting` first); None hangs up."""
    table: dict[str, str | None] = {
        "greeting": "220 hop",
        "EHLO": "250 hop",
        "MAIL": "250 ok",
        "RCPT": "250 ok",
        "DATA": "354 go",
        "dot": "250 taken",
        "QUIT": "221 bye",
        **said,
    }

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(what: str) -> bool:
            line = table.get(what, "500 what?")
            if line is None:
                return False
            writer.write(line.encode() + b"\r\n")
            await writer.drain()
            return True

        if not await say("greeting"):
            return
        while line := await reader.readline():
            verb = line[:4].decode("latin-1").upper()
            if not await say(verb):
                return
            if verb == "DATA" and (table["DATA"] or "").startswith("354"):
                await reader.readuntil(b"\r\n.\r\n")
                if not await say("dot"):
                    return

    return script


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the connection and says nothing."""
    await reader.read()
