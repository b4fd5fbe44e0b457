"""One SMTP connection below its commands: reading, speaking, TLS, end of file, time.

The part of the server that may be replaced for speed without touching a command. What it changes of
aiosmtpd: pipelined commands are answered in one write, bytes held are bounded for any content
(`mx.wire`), nothing in clear survives STARTTLS, a half-closed client is still answered, and a lost
connection never stops a mail that is being accepted.
"""

import asyncio
import contextlib
import ssl
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from aiosmtpd.smtp import SMTP

from monitoring import log
from monitoring.metrics import mx as metrics
from mx import replies
from mx.replies import Reply
from mx.session import Reception
from mx.transaction import Connection, Transaction
from mx.wire import Commands

READ_BYTES = 64 * 1024
IDLE_S = 300.0
"""RFC 5321 section 4.5.3.2.7: at least 5 minutes."""
FLUSH_BYTES = 16 * 1024
TLS_HELLO = 0x16
TLS_HANDSHAKE_S = 30.0
CLOSE_S = 10.0
"""How long a client may take to read our last words."""

_log = log.get(__name__)
_replies = {f"{kind}": metrics.replies.labels(f"{kind}xx") for kind in "2345"}


@dataclass(frozen=True, slots=True)
class Front:
    """What every session of a listener shares."""

    hostname: str
    max_message_bytes: int
    greet_delay_s: float
    normalise_newlines: bool
    tls: Callable[[], ssl.SSLContext | None]
    """The TLS context of the moment: certificates change without a restart."""
    idle_s: float = IDLE_S
    sessions: "set[Stream]" = field(default_factory=set)
    """Every session that is open, so that a shutdown can speak to each."""


class Closing(Exception):
    """The session ends; what was said is flushed first."""


class Stream(SMTP):
    """One connection; `_obey` is for the commands' class to say."""

    line_length_limit = READ_BYTES  # aiosmtpd makes it the limit of its StreamReader, which stops reading at twice that

    session: Connection
    envelope: Transaction
    event_handler: Reception

    def __init__(self, reception: Reception, front: Front, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            reception,
            hostname=front.hostname,
            ident="ESMTP",
            data_size_limit=front.max_message_bytes,
            enable_SMTPUTF8=True,
            timeout=front.idle_s,
            loop=loop,
        )
        self._front = front
        self._commands = Commands()
        self._out = bytearray()
        self._spoken_to = False
        self._waiting = False

    # What aiosmtpd creates for us

    def _create_session(self) -> Connection:
        return Connection(self.loop)

    def _create_envelope(self) -> Transaction:
        return Transaction()

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._front.sessions.add(self)
        peer = transport.get_extra_info("peername")
        if peer:
            self.session.client_ip, self.session.client_port = str(peer[0]), int(peer[1])

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone; a mail that is being accepted goes on without it."""
        self._front.sessions.discard(self)
        self.event_handler.gone(self.session, self.envelope)
        super().connection_lost(error)

    def eof_received(self) -> bool | None:
        """The client will send no more; unlike aiosmtpd, what it sent is obeyed and answered first."""
        return asyncio.StreamReaderProtocol.eof_received(self)

    def shut_down(self, *, amid_mail: bool) -> None:
        """Send a waiting client away; amid a mail only if `amid_mail`, and never while it is being answered."""
        if self._waiting and not self._is_closing() and (amid_mail or not self.envelope.is_open):
            self._say(replies.SHUTTING_DOWN)
            self._close_transport()

    async def _handle_client(self) -> None:
        try:
            with contextlib.suppress(Closing, ConnectionError):
                await self._greet()
                await self._converse()
        finally:
            self._close_transport()

    async def _converse(self) -> None:
        while True:
            line = self._commands.line()
            if line is None:
                await self._more()
            else:
                await self._obey(line)

    @abstractmethod
    async def _obey(self, line: bytes) -> None:
        """Obey one command line."""

    async def _greet(self) -> None:
        await asyncio.sleep(self._front.greet_delay_s)
        self.session.talked_early = self._has_input()
        refusal = self.event_handler.admit(self.session)
        if refusal:
            self._say(refusal)
            raise Closing
        self._say(Reply(220, "", f"{self.hostname} ESMTP"))

    def _has_input(self) -> bool:
        return bool(self._reader._buffer)  # type: ignore[attr-defined]  # StreamReader has no public way to ask

    async def _more(self) -> None:
        """Flush what was said and wait for input; raises Closing at its end."""
        self._commands.feed(await self._read())
        if not self._spoken_to and self._commands.held[0] == TLS_HELLO:
            self._say(replies.NOT_SMTP)
            raise Closing
        self._spoken_to = True

    async def _read(self) -> bytes:
        await self._flush()
        self._reset_timeout()
        self._waiting = True
        try:
            data: bytes = await self._reader.read(READ_BYTES)
        finally:
            self._waiting = False
        if not data:
            raise Closing
        return data

    def _timeout_cb(self) -> None:
        if self.transport is not None and self.transport.get_write_buffer_size():  # type: ignore[attr-defined]
            self.transport.abort()  # type: ignore[attr-defined]  # it does not read: a close would wait for ever
            return
        self._say(replies.IDLE)
        self._close_transport()

    def _is_closing(self) -> bool:
        return self.transport is None or self.transport.is_closing()

    def _close_transport(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self._out:
            self._writer.write(bytes(self._out))
            self._out.clear()
        self.transport.close()
        self.loop.call_later(CLOSE_S, self.transport.abort)  # type: ignore[attr-defined]

    # Speaking

    async def push(self, status: str | bytes) -> None:
        """Say one line; it leaves with the next flush, so that pipelined commands are answered in one write."""
        self._say_line(status if isinstance(status, bytes) else status.encode("ascii", "replace"))
        if len(self._out) > FLUSH_BYTES:
            await self._flush()

    def _say(self, reply: Reply) -> None:
        self._say_line(reply.line.encode("ascii", "replace"))

    def _say_line(self, line: bytes) -> None:
        self._out += line + b"\r\n"
        self.session.said(line)
        if line[3:4] != b"-":
            _replies[chr(line[0])].inc()

    async def _flush(self) -> None:
        if self._out:
            self._writer.write(bytes(self._out))
            self._out.clear()
        await self._writer.drain()

    async def _upgrade(self, context: ssl.SSLContext) -> None:
        # Nothing buffered in clear survives (RFC 3207 section 5; CVE-2024-34083): both buffers are emptied
        # after the last write in clear, with no await before the transport changes hands.
        self._commands.held.clear()
        self._reader._buffer.clear()  # type: ignore[attr-defined]
        assert self.transport is not None
        try:
            transport = await self.loop.start_tls(
                self.transport,  # type: ignore[arg-type]
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=TLS_HANDSHAKE_S,
            )
        except (OSError, ssl.SSLError) as error:
            _log.info("tls_failed", client=self.session.client_ip, error=str(error))
            raise Closing from error
        if transport is None:
            raise Closing
        self._over_tls(transport)

    def _over_tls(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._over_ssl = True
        self._reader._transport = transport  # type: ignore[attr-defined]
        self._writer._transport = transport  # type: ignore[attr-defined]
        cipher = transport.get_extra_info("cipher")
        version = transport.get_extra_info("ssl_object").version()
        self.session.host_name = None
        self.session.extended_smtp = False
        self.session.tls = f"{version} with cipher {cipher[0]}"
