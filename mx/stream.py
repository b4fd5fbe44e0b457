"""One SMTP connection below its commands: what arrives is obeyed in turn, or handed on as a message; TLS.

There is no task per connection: commands are obeyed as they arrive, and only one that has to wait gets a
task. Bytes held are bounded for any content (`mx.wire`, `mx.room`), nothing in clear survives STARTTLS, a
half-closed client is still answered, and a lost connection never stops a mail that is being accepted.
"""

import asyncio
import ssl
from abc import abstractmethod
from collections.abc import Coroutine
from typing import Any

from monitoring import log
from mx import proxy, replies
from mx.eager import rest_of
from mx.front import Front
from mx.limits import plain_ip
from mx.pace import TLS_S, Pace, Turn
from mx.session import Reception
from mx.voice import UNREAD_BYTES, Voice

HELD_BYTES = 64 * 1024
"""What may wait while a command is at work; then reading pauses."""
TURN_COMMANDS = 20
"""Commands obeyed before other clients get their turn."""
NOISE = frozenset({*range(0x20), *range(0x7F, 0x100)} - set(b"\r\n\t"))
"""First bytes that no SMTP client sends; a TLS hello (0x16) is among them."""

_log = log.get(__name__)


class Closing(Exception):
    """The session ends; what was said is flushed first."""


class Bye(Closing):
    """The client said that it leaves."""


class Stream(Voice):
    """One connection; `_obey` is for the commands' class to say."""

    __slots__ = ("_arrival", "_greeted", "_is_stalled", "_spoken_to", "_task")

    def __init__(self, reception: Reception, front: Front, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reception, front, loop)
        self._task: asyncio.Task[None] | None = None
        """The command that waits for something."""
        self._arrival: asyncio.Future[bytes] | None = None
        """Where the next piece of a message is waited for."""
        self._greeted = self._spoken_to = self._is_stalled = False

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected, or a proxy that will name it."""
        self.transport = transport
        self.transport.set_write_buffer_limits(high=UNREAD_BYTES)
        self.session, self.envelope = self._create_session(), self._create_envelope()
        self._pace = Pace(self._front.smtp.limits, self.loop.time())
        self._front.sessions.add(self)
        if peer := transport.get_extra_info("peername"):
            self.session.peer = peer
            self.session.client_ip, self.session.client_port = plain_ip(str(peer[0])), int(peer[1])
        if self._front.smtp.proxies and proxy.is_listed(self._front.smtp.proxies, self.session.client_ip):
            self._pace.begin(Turn.HANDSHAKE, self.loop.time())
        else:
            self._admit()

    def _admit(self) -> None:
        refusal = self.event_handler.admit(self.session)
        if refusal:
            self._say(refusal)
            self._end()
        else:
            self._pace.begin(Turn.COMMAND, self.loop.time())
            self.loop.call_later(self._front.smtp.greet_delay_s, self._greet)

    def _greet(self) -> None:
        if self._is_over:
            return
        self.session.talked_early = bool(self._commands.held)
        self._greeted = True
        self._say_lines(self._front.greeting)
        self._work()

    def _named(self) -> None:
        """Read the PROXY header; the client it names is the one that is admitted."""
        try:
            found = proxy.read(bytes(self._commands.held))
        except proxy.BadProxy as error:
            _log.warning("bad_proxy_header", peer=self.session.client_ip, error=str(error))
            self._pace.begin(Turn.OVER, self.loop.time())
            self.transport.abort()
            return
        if found is None:
            return
        del self._commands.held[: found.size]
        if found.client_ip:
            self.session.client_ip, self.session.client_port = plain_ip(found.client_ip), found.client_port
        self._admit()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone; a mail that is being accepted goes on without it."""
        if self.transport is None:
            return
        self.transport = None
        self._pace.begin(Turn.OVER, self.loop.time())
        self._front.sessions.discard(self)
        self.event_handler.gone(self.session, self.envelope)
        if self._task is not None:
            self._task.cancel()

    # Reading

    def data_received(self, data: bytes) -> None:
        """Obey what arrived, or hold it while a command is at work."""
        if self._arrival is not None:
            arrival, self._arrival = self._arrival, None
            arrival.set_result(data)
        elif not self._is_over:
            self._commands.feed(data)
            if self._greeted and self._task is None:
                self._work()
            elif self._pace.turn is Turn.HANDSHAKE and self._task is None:
                self._named()
            if len(self._commands.held) > HELD_BYTES and not self._is_over:
                self.transport.pause_reading()
                self._is_paused = True

    def eof_received(self) -> bool:
        """The client will send no more; unlike aiosmtpd, what it sent is obeyed and answered first."""
        self._eof = True
        if self._is_over:
            return False
        if self._arrival is not None:
            arrival, self._arrival = self._arrival, None
            arrival.set_exception(Closing())
        elif self._pace.turn is Turn.HANDSHAKE:
            self.transport.abort()
        elif self._task is None and self._greeted:
            self._work()
        return not self.session.tls and not self._is_over  # a TLS connection cannot be half-closed

    def _work(self) -> None:
        """Obey the commands that wait, a turn's worth; all replies leave in one write."""
        if self._is_over:
            return
        try:
            self._look_at_first_bytes()
            for _ in range(TURN_COMMANDS):
                line = None if self._task or self._is_stalled else self._commands.line()
                if line is None:
                    break
                self._start(self._obey(line))
            else:
                if self._commands.has_line:
                    self.loop.call_soon(self._work)
                    return
        except Closing as closing:
            self._end(linger=not isinstance(closing, Bye))
            return
        self._wait()

    def _look_at_first_bytes(self) -> None:
        held = self._commands.held
        if not self._spoken_to and held:
            if held[0] in NOISE or held.startswith(proxy.SIGNATURE[:5]):
                self._say(replies.NOT_SMTP)
                raise Closing
            self._spoken_to = True

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a command to its end, or to its first wait and from there as a task."""
        self._pace.begin(Turn.OURS, self.loop.time())
        try:
            waits_for = work.send(None)
        except StopIteration:
            self._pace.turn = Turn.COMMAND
            return
        self._task = self.loop.create_task(rest_of(work, waits_for))
        self._task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if self.transport is None:
            return
        if error is None:
            self._pace.begin(Turn.COMMAND, self.loop.time())
            self._work()
        else:
            self._end(linger=not isinstance(error, Bye))

    def _wait(self) -> None:
        """Nothing more to obey now: speak, and let more come."""
        self._flush()
        if self._task is None and self._eof:
            self._end(linger=False)
        elif self._task is None:
            self._resume()

    async def _read(self) -> bytes:
        """The next piece of the message. Raises Closing when the client will send no more."""
        if not self._commands.held:
            if self._eof or self._is_over:
                raise Closing
            self._flush()
            self._pace.begin(Turn.MESSAGE, self.loop.time())
            self._arrival = self.loop.create_future()
            self._resume()
            data = await self._arrival
        else:
            data = self._commands.take()
            if self._pace.turn is not Turn.MESSAGE:
                self._pace.begin(Turn.MESSAGE, self.loop.time())
        self._pace.piece(len(data), self.loop.time())
        return data

    @abstractmethod
    async def _obey(self, line: bytes) -> None:
        """Obey one command line. Raises Closing, ConnectionError and nothing else."""

    def pause_writing(self) -> None:
        """The client does not read what we say: its commands wait."""
        self._is_stalled = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._is_stalled = False
        if self._task is None and self._greeted:
            self._work()

    # TLS

    async def _upgrade(self, context: ssl.SSLContext) -> None:
        # Nothing buffered in clear survives (RFC 3207 section 5; CVE-2024-34083): what is held is dropped
        # after the last write in clear, with no await before the transport changes hands.
        self._flush()
        self._commands.held.clear()
        self._is_paused = False
        self._pace.begin(Turn.HANDSHAKE, self.loop.time())
        try:
            transport = await self.loop.start_tls(
                self.transport, self, context, server_side=True, ssl_handshake_timeout=TLS_S
            )
        except (OSError, ssl.SSLError) as error:
            _log.info("tls_failed", client=self.session.client_ip, error=str(error))
            self._never_secured()
            raise Closing from error
        if transport is None or transport.is_closing() or self._is_over:  # cut meanwhile: uvloop tells no error
            self._never_secured()
            raise Closing
        self._over_tls(transport)

    def _never_secured(self) -> None:
        """A handshake that fails takes the connection with it, and the loop does not tell us."""
        if self.transport is not None:
            self.transport.abort()
            self.connection_lost(None)

    def _over_tls(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=UNREAD_BYTES)
        cipher = transport.get_extra_info("cipher")
        version = transport.get_extra_info("ssl_object").version()
        self.session.host_name = None
        self.session.extended_smtp = False
        self.session.tls = f"{version} with cipher {cipher[0]}"
