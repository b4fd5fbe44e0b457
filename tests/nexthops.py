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
async def scripted(script: Script, host: str = "127.0.0.1") -> AsyncIterator[NextHop]:
    """A server that does whatever the script says with each connection."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await script(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, host, 0, limit=2**26)
    try:
        yield NextHop(host, server.sockets[0].getsockname()[1])
    finally:
        server.close()


Said = str | bytes | None | list["str | bytes | None"]
"""A reply without its line end; bytes go out as they are; "" says nothing; None hangs up; a list has one a time."""

PIPELINING = "250-hop\r\n250 PIPELINING"


class Talker:
    """A hop that answers each command by its verb, and remembers what every connection said.

    `greeting` comes first, `dot` after a message; with `tls` a 220 to STARTTLS is followed by the handshake.
    Verbs it does not know get a 500.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, **said: Said) -> None:
        self._tls = tls
        self._table: dict[str, Said] = {
            "greeting": "220 hop",
            "EHLO": PIPELINING,
            "RSET": "250 ok",
            "MAIL": "250 ok",
            "RCPT": "250 ok",
            "DATA": "354 go",
            "dot": "250 taken",
            "QUIT": "221 bye",
            "STARTTLS": "220 go",
            **said,
        }
        self.connections: list[list[str]] = []
        """The command lines of each connection; a message is one line, "(message)" or "(empty)"."""
        self.messages: list[bytes] = []
        """Every message that ended with its dot, stuffed as it came."""
        self.writers: list[asyncio.StreamWriter] = []
        self.ended = 0
        """Connections that have ended."""

    def say(self, what: str, said: Said) -> None:
        """Say this from now on."""
        self._table[what] = said

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard: list[str] = []
        self.connections.append(heard)
        self.writers.append(writer)
        try:
            if await self._say("greeting", writer):
                while (line := await reader.readline()) and await self._obey(line, heard, reader, writer):
                    pass
        finally:
            self.ended += 1

    async def _obey(
        self, line: bytes, heard: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        heard.append(line.decode("latin-1").rstrip())
        verb = heard[-1].split(" ")[0].upper()
        said = self._next(verb)
        if not await self._utter(said, writer):
            return False
        if verb == "DATA" and str(said).startswith("354"):
            lines = [await reader.readline()]
            while lines[-1] not in (b".\r\n", b""):
                lines.append(await reader.readline())
            if not lines[-1]:
                return False
            message = b"".join(lines)
            heard.append("(empty)" if message == b".\r\n" else "(message)")
            self.messages.append(message)
            return await self._say("dot", writer)
        if verb == "STARTTLS" and self._tls and str(said).startswith("220"):
            await writer.start_tls(self._tls)
        return True

    async def _say(self, what: str, writer: asyncio.StreamWriter) -> bool:
        return await self._utter(self._next(what), writer)

    async def _utter(self, said: "str | bytes | None", writer: asyncio.StreamWriter) -> bool:
        if said is None:
            return False
        if said:
            writer.write(said if isinstance(said, bytes) else said.encode() + b"\r\n")
            await writer.drain()
        return True

    def _next(self, what: str) -> "str | bytes | None":
        said = self._table.get(what, "500 what?")
        if isinstance(said, list):
            return said.pop(0) if len(said) > 1 else said[0]
        return said


def answers(**said: Said) -> Script:
    """A hop that speaks step by step and answers each command by its verb, as `Talker` does."""
    return Talker(**{"EHLO": "250 hop", **said})


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the connection and says nothing."""
    await reader.read()
