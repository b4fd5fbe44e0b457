"""What every session of a listener shares: its settings, the open sessions and the one timer that watches them."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from mx.room import Room
from syncd.config import Smtp

TICK_S = 1.0
"""How often the time of every session is looked at; a timer for each command would cost more than the command."""


class Watched(Protocol):
    """A session as the timer and the shutdown see it."""

    def look_at_time(self, now: float) -> None:
        """Send the client away if it is overdue."""

    def shut_down(self, *, amid_mail: bool) -> None:
        """Send the client away, amid a mail only if asked to."""


class Sessions:
    """The open sessions. The timer runs while there are any."""

    def __init__(self, tick_s: float) -> None:
        self._open: set[Watched] = set()
        self._tick_s = tick_s
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Watched]:
        return iter(list(self._open))

    def add(self, session: Watched) -> None:
        """A client has connected."""
        self._open.add(session)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def discard(self, session: Watched) -> None:
        """The connection is gone."""
        self._open.discard(session)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._tick_s, self._tick) if self._open else None
        now = loop.time()
        for session in self:
            session.look_at_time(now)


@dataclass(frozen=True)
class Front:
    """A listener's settings, and what its sessions have in common."""

    smtp: Smtp
    tls: Callable[[], ssl.SSLContext | None]
    """The TLS context of the moment: certificates change without a restart."""
    spill_dir: str | None = None
    """Where messages too large for memory wait; None for the system's directory."""
    sessions: Sessions = field(init=False)
    room: Room = field(init=False)

    def __post_init__(self) -> None:
        limits = self.smtp.limits
        tick_s = min(TICK_S, limits.idle_s / 4, limits.session_s / 4)
        object.__setattr__(self, "sessions", Sessions(tick_s))
        object.__setattr__(self, "room", Room(limits.message_memory_bytes, self.spill_dir))

    @cached_property
    def greeting(self) -> bytes:
        """The banner."""
        return f"220 {self.smtp.hostname} ESMTP\r\n".encode()

    def offers(self, *, starttls: bool) -> bytes:
        """The reply to EHLO. No CHUNKING, no AUTH, no DSN."""
        return self._offers[starttls]

    @cached_property
    def _offers(self) -> tuple[bytes, bytes]:
        lines = [
            self.smtp.hostname,
            "PIPELINING",
            f"SIZE {self.smtp.max_message_bytes}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            f"LIMITS RCPTMAX={self.smtp.limits.recipients}",
        ]
        return _reply(lines), _reply([*lines, "STARTTLS"])


def _reply(lines: list[str]) -> bytes:
    said = [*(f"250-{line}\r\n" for line in lines[:-1]), f"250 {lines[-1]}\r\n"]
    return "".join(said).encode()
