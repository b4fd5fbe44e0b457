"""How long a delivery waits, in each phase and in all."""

from dataclasses import dataclass
from time import monotonic

LEAST_S = 0.05
"""Every wait gets at least this, so that what has arrived already is still heard when the time is up."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait in each phase, and for the whole of it.

    Far below RFC 5321 section 4.5.3.2 (5 to 10 minutes): a sender waits for us meanwhile, and comes again.
    """

    connect_s: float = 10.0
    command_s: float = 20.0
    dot_s: float = 80.0
    total_s: float = 105.0


USUAL = Timeouts()


class Clock:
    """The time-outs of one delivery, which began when this was made."""

    __slots__ = ("_until", "timeouts")

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self._until = monotonic() + timeouts.total_s

    @property
    def is_up(self) -> bool:
        """Whether the whole of the time has passed."""
        return monotonic() >= self._until

    def connect_s(self) -> float:
        """Seconds that connecting, or waiting for a free connection, may take from now."""
        return self._left(self.timeouts.connect_s)

    def command_s(self) -> float:
        """Seconds the next reply may take from now; or the next hop to read on, while a message flows."""
        return self._left(self.timeouts.command_s)

    def dot_s(self) -> float:
        """Seconds the reply after the final dot may take from now."""
        return self._left(self.timeouts.dot_s)

    def _left(self, phase_s: float) -> float:
        return max(LEAST_S, min(phase_s, self._until - monotonic()))
