"""Which name server is asked next: those that answer, in order, and a breaker for those that do not. No I/O.

A time-out says little about a server: the name that was asked may belong to somebody whose own
servers are dead, on purpose even. So time-outs only make a server *suspect*; whether it lives is
told by a question of ours (a probe), and only a failed probe switches it off.
"""

import ipaddress
from dataclasses import dataclass
from enum import Enum

SUSPECT_AFTER = 5
"""Failures in a row."""
OFF_S = 5.0
"""How long a server is skipped after a failed probe; the next probe follows."""


class State(Enum):
    """What may be done with a server now."""

    ASK = "ask"
    PROBE = "probe"
    SKIP = "skip"


@dataclass(slots=True)
class Server:
    """One name server and what its last exchanges were like."""

    host: str
    port: int
    failures: int = 0
    off_until: float = 0.0

    def state(self, now: float) -> State:
        """Whether to ask it, to probe it first, or to skip it."""
        if now < self.off_until:
            return State.SKIP
        return State.PROBE if self.failures >= SUSPECT_AFTER else State.ASK

    def answered(self) -> None:
        """It gave a reply, whatever was in it."""
        self.failures, self.off_until = 0, 0.0

    def failed(self) -> None:
        """It gave none, or one that cannot be read."""
        self.failures += 1

    def probe_failed(self, now: float) -> None:
        """It does not answer our own question either."""
        self.off_until = now + OFF_S


def parse(text: str) -> Server:
    """The server of "address:port" or "[address]:port". Raises ValueError."""
    host, _, port = text.rpartition(":")
    address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    if not 0 < int(port) < 65536:
        raise ValueError(f"{text}: no such port")
    return Server(str(address), int(port))
