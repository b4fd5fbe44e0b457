"""One SMTP connection as we speak on it: replies, how long a client may take, last words.

aiosmtpd's class without its constructor and its StreamReader. Replies leave in one write, a client that is
too slow is sent away, and our last words reach a client that is still talking. Reading is `mx.stream`.
"""

import asyncio
from typing import Any

from aiosmtpd.smtp import SMTP

from monitoring.metrics import mx as metrics
from mx import replies
from mx.front import Front
from mx.pace import Pace, Turn
from mx.replies import Reply
from mx.session import Reception
from mx.transaction import Connection, Transaction
from mx.wire import Commands

UNREAD_BYTES = 16 * 1024
"""Replies that a client has not read before its commands wait."""

_replies = {ord(kind): metrics.replies.labels(f"{kind}xx") for kind in "2345"}


class Voice(SMTP):
    """One connection; what is read on it is for `Stream` to say."""

    __slots__ = (
        "_commands",
        "_eof",
        "_front",
        "_is_paused",
        "_out",
        "_pace",
        "envelope",
        "event_handler",
        "hostname",
        "loop",
        "session",
        "transport",
    )

    session: Connection
    envelope: Transaction
    event_handler: Reception
    transport: Any
    loop: asyncio.AbstractEventLoop
    _pace: Pace

    def __init__(self, reception: Reception, front: Front, loop: asyncio.AbstractEventLoop) -> None:
        # Not aiosmtpd's constructor: it looks through handler and class at every connection, a third of what a
        # small mail costs, and makes a StreamReader.
        self.event_handler, self._front, self.loop = reception, front, loop
        self.hostname = front.smtp.hostname
        self.transport = None
        self._commands = Commands()
        self._out = bytearray()
        self._eof = self._is_paused = False

    # What aiosmtpd creates for us

    def _create_session(self) -> Connection:
        return Connection(self.loop)

    def _create_envelope(self) -> Transaction:
        return Transaction()

    # Time and the end

    def look_at_time(self, now: float) -> None:
        """Send a client away that is too slow; one that does not even read is cut."""
        reply = self._pace.overdue(now)
        if reply is None or self.transport is None:
            return
        if self._pace.turn in (Turn.OVER, Turn.HANDSHAKE) or self.transport.get_write_buffer_size():
            self._pace.begin(Turn.OVER, now)
            self.transport.abort()
        else:
            self._say(reply)
            self._end()

    def shut_down(self, *, amid_mail: bool) -> None:
        """Send a waiting client away; amid a mail only if `amid_mail`, and never while it is being answered."""
        if self._pace.turn is Turn.HANDSHAKE and amid_mail:
            self.transport.abort()
        elif self._pace.turn in (Turn.COMMAND, Turn.MESSAGE) and (amid_mail or not self.envelope.is_open):
            self._say(replies.SHUTTING_DOWN)
            self._end()

    @property
    def _is_over(self) -> bool:
        return self._pace.turn is Turn.OVER

    def _end(self, *, linger: bool = True) -> None:
        """Flush our last words and close.

        With `linger` what the client is still sending is read and dropped for a while: closing at once would
        reset the connection, and the client would lose our words (RFC 1122 section 4.2.2.13).
        """
        if self._is_over:
            return
        self._flush()
        self._pace.begin(Turn.OVER, self.loop.time())
        self._commands.held.clear()
        if self.transport.is_closing():
            return
        if linger and not self._eof and self.transport.can_write_eof():
            self.transport.write_eof()
            self._resume()
        else:
            self.transport.close()

    def _resume(self) -> None:
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    # Speaking

    async def push(self, status: str | bytes) -> None:
        """Say one line; it leaves with the next flush, so that pipelined commands are answered in one write."""
        line = status if isinstance(status, bytes) else status.encode("ascii", "replace")
        self._say_lines(line + b"\r\n")

    def _say(self, reply: Reply) -> None:
        self._say_lines(reply.wire)

    def _say_lines(self, lines: bytes) -> None:
        """Say a reply of one or more lines, each with its CRLF."""
        self._out += lines
        self.session.said(lines)
        _replies[lines[0]].inc()

    def _flush(self) -> None:
        if self._out and not self.transport.is_closing():
            self.transport.write(bytes(self._out))
            self._out.clear()
