"""When a client is too slow: for a command, for a message, for a whole session. Pure; time is passed in."""

from dataclasses import dataclass
from enum import Enum

from mx import replies
from mx.replies import Reply
from syncd.config import SmtpLimits

TLS_S = 30.0
"""For a TLS handshake or a PROXY header."""
CLOSE_S = 10.0
"""How long a client may take to read our last words and leave."""


class Turn(Enum):
    """Whose move it is."""

    COMMAND = "the client's: a command"
    MESSAGE = "the client's: a piece of its message"
    HANDSHAKE = "the client's: its part of TLS, or a PROXY header"
    OURS = "ours"
    OVER = "nobody's: we have said our last words"


@dataclass(slots=True)
class Pace:
    """The clock of one session. Bytes of a command do not count, only a whole one does."""

    limits: SmtpLimits
    began: float
    turn: Turn = Turn.OURS
    since: float = 0.0
    """When the turn began, or the last piece of the message came."""
    message_began: float = 0.0
    message_bytes: int = 0

    def begin(self, turn: Turn, now: float) -> None:
        """It is somebody's move from now on."""
        if turn is Turn.MESSAGE and self.turn is not Turn.MESSAGE:
            self.message_began, self.message_bytes = now, 0
        self.turn, self.since = turn, now

    def piece(self, size: int, now: float) -> None:
        """A piece of the message came."""
        self.message_bytes += size
        self.since = now

    def overdue(self, now: float) -> Reply | None:
        """What to send the client away with, None while it is in time. While the turn is ours it always is."""
        if self.turn is Turn.OURS:
            return None
        if now - self.began > self.limits.session_s and self.turn is not Turn.OVER:
            return replies.SESSION_TOO_LONG
        if now - self.since > self._patience_s():
            return replies.IDLE
        if self.turn is Turn.MESSAGE and now - self.message_began > self._message_s():
            return replies.TOO_SLOW
        return None

    def _patience_s(self) -> float:
        if self.turn is Turn.OVER:
            return CLOSE_S
        return min(TLS_S, self.limits.idle_s) if self.turn is Turn.HANDSHAKE else self.limits.idle_s

    def _message_s(self) -> float:
        return self.limits.message_grace_s + self.message_bytes / self.limits.bytes_per_s
