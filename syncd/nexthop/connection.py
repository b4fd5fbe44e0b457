"""One TCP connection to a next hop: bytes out, replies in, TLS, deadlines. What is said is no matter of its.

At most one task waits on it at a time. It is closed by `abort`, by `leave`, or by the hop; then every wait
raises `Broken` once the replies that had arrived were taken.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import cast

from syncd.nexthop.opening import Offers
from syncd.nexthop.reply import Garbled, Replies, Reply

HELD_BYTES = 1024 * 1024
"""Unread replies a hop may pile up; 10,000 pipelined recipients bring that many."""
BATCH_BYTES = 64 * 1024
"""Pieces of a message that go out in one system call."""
LEAVE_S = 2.0
"""How long a hop may take to answer QUIT; RFC 5321 section 4.1.1.10 asks us to wait for it."""


class Broken(Exception):
    """The connection ended, or what came over it cannot be understood; the text says which."""


class TimedOut(Broken):
    """The hop let a deadline pass."""


class TlsFailed(Broken):
    """The hop agreed to TLS and then it could not be negotiated."""


class Connection(asyncio.Protocol):
    """A connection that `syncd.nexthop.connect` opened; `when_gone` is called once, when its transport has closed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._replies = Replies()
        self._waiter: asyncio.Future[bool] | None = None
        self._paused = False
        self._ended = ""
        self._idle = False
        self._leaving: asyncio.TimerHandle | None = None
        self.when_gone: Callable[[Connection], None] = _nothing
        self.offers = Offers()
        self.mails = 0
        """Mails begun over it."""
        self.leaves_open = False
        """Whether the last mail left the hop inside a transaction, so that RSET is needed first."""

    # What a dialogue does

    def write(self, data: bytes) -> None:
        """Send; what a lost connection is told is dropped, and its next wait says so."""
        if self._transport and data and not self._ended:
            self._transport.write(data)

    async def reply(self, within_s: float) -> Reply:
        """The next reply. Raises Broken, TimedOut after `within_s`, however steadily the hop drips."""
        until = 0.0
        while (reply := self._take()) is None:
            self._check()
            until = until or self._loop.time() + within_s
            await self._woken(until)
        return reply

    async def send(self, pieces: Iterable[bytes | memoryview], stall_s: Callable[[], float]) -> bool:
        """Send a message as fast as the hop reads it; True when its last piece was handed to the transport.

        False, with the rest unsent, when the hop speaks before. Raises Broken, TimedOut when it reads nothing
        for `stall_s()`.
        """
        batch: list[bytes | memoryview] = []
        size_bytes = 0
        for piece in pieces:
            batch.append(piece)
            size_bytes += len(piece)
            if size_bytes >= BATCH_BYTES:
                if not await self._send_batch(batch, stall_s):
                    return False
                batch, size_bytes = [], 0
        return await self._send_batch(batch, stall_s)

    @property
    def has_unread(self) -> bool:
        """Whether the hop said something that was not asked for, or not all of it has arrived."""
        return self._replies.held_bytes > 0

    @property
    def is_open(self) -> bool:
        """Whether its transport has not closed yet."""
        return self._transport is not None

    @property
    def is_usable(self) -> bool:
        """Whether it is open and in step."""
        return not self._ended and not self._leaving and not self.has_unread

    async def secure(self, context: ssl.SSLContext, host: str, within_s: float) -> None:
        """Negotiate TLS; `host` is the name its certificate must have, where the context looks. Raises TlsFailed."""
        if self.has_unread or self._transport is None:  # said in clear, to be taken for secure: RFC 3207 section 4.2
            raise TlsFailed("The next hop speaks in clear behind its answer to STARTTLS")
        try:
            async with asyncio.timeout(within_s):
                secure = await self._loop.start_tls(
                    self._transport, self, context, server_hostname=host, ssl_handshake_timeout=within_s
                )
        except (OSError, ValueError) as error:  # ValueError: a host that cannot be a name in a certificate
            raise TlsFailed(f"TLS with the next hop failed: {error or 'it took too long'}") from error
        if secure is None:
            raise TlsFailed("TLS with the next hop failed: it closed the connection")
        self._transport = secure

    # What its keeper does

    def rest(self) -> None:
        """Nothing is awaited from now on: the connection aborts itself as soon as the hop says anything."""
        self._idle = True

    def wake(self) -> None:
        """The opposite: it is about to be used again."""
        self._idle = False

    def leave(self) -> None:
        """Say QUIT, close when the hop has answered, or after `LEAVE_S`."""
        self._idle = False
        if self._ended:
            self.abort()
        elif not self._leaving:
            self.write(b"QUIT\r\n")
            self._leaving = self._loop.call_later(LEAVE_S, self.abort)

    def abort(self) -> None:
        """Close at once; what is buffered is not sent."""
        self._end("We closed the connection")
        if self._transport:
            self._transport.abort()

    # What the loop does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """The hop said something."""
        self._replies.feed(data)
        if self._leaving and self._transport:
            self._transport.close()
        elif self._idle or self._replies.held_bytes > HELD_BYTES:
            self.abort()
        self._notice()

    def eof_received(self) -> None:
        """The hop will say no more; the transport closes itself."""
        self._end("The next hop closed the connection")

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._end(f"The connection was lost: {error}" if error else "The next hop closed the connection")
        self._transport = None
        if self._leaving:
            self._leaving.cancel()
        gone, self.when_gone = self.when_gone, _nothing
        gone(self)

    def pause_writing(self) -> None:
        """The hop reads more slowly than we write."""
        self._paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._paused = False
        self._notice()

    def _take(self) -> Reply | None:
        try:
            return self._replies.take()
        except Garbled as error:
            raise Broken(str(error)) from error

    def _check(self) -> None:
        if self._ended:
            raise Broken(self._ended)

    def _end(self, why: str) -> None:
        self._ended = self._ended or why
        self._notice()

    def _notice(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(True)

    async def _send_batch(self, batch: list[bytes | memoryview], stall_s: Callable[[], float]) -> bool:
        while self._paused:
            self._check()
            await self._woken(self._loop.time() + stall_s())
        self._check()
        if self.has_unread or self._transport is None:
            return False
        self._transport.writelines(batch)
        return True

    async def _woken(self, until: float) -> None:
        """Return when anything has happened. Raises TimedOut at `until` on the loop's clock."""
        self._waiter = waiter = self._loop.create_future()
        timer = self._loop.call_at(until, _late, waiter)
        try:
            if not await waiter:
                raise TimedOut("The next hop does not answer in time")
        finally:
            timer.cancel()
            self._waiter = None


def _late(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)


def _nothing(_: Connection) -> None:
    pass
