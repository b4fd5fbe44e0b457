"""Names of streams and positions: what every part of the spool protocol speaks of. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Ranges = tuple[tuple[int, int], ...]
"""Positions as closed intervals (first, last): sorted, disjoint, not touching."""


@dataclass(frozen=True, slots=True, order=True)
class Stream:
    """One opening of a node's journal. Positions count from 1 and never repeat within an epoch."""

    node: str
    epoch: str
    """16 random bytes in hex, made durable before the first record."""


class Held(Protocol):
    """One record in a holder's journal."""

    @property
    def stream(self) -> Stream: ...
    @property
    def position(self) -> int: ...
    @property
    def header(self) -> bytes:
        """The `syncd.spool.record.Record` as JSON, as it came: perhaps not readable."""

    @property
    def body_bytes(self) -> int: ...
    def read_body(self) -> bytes:
        """The raw message from the disk (blocks). Raises OSError, or ValueError when it is damaged."""


class NotNow(Exception):
    """Nothing can be stored for the moment (PostgreSQL is away, the disk is full); it is tried again."""


class Stores(Protocol):
    """Where a receiver puts what it holds: the quarantine (`control.quarantine.ingest`)."""

    async def stored(self, stream: Stream) -> Ranges:
        """Positions of a stream that were stored at any time, also those deleted since. Raises NotNow."""

    async def store(self, batch: Sequence[Held]) -> None:
        """Return when every record is stored for good, or durably set aside as poison.

        A record may come again: it is stored once. Raises NotNow when nothing of the batch may be released.
        """

    async def withdraw(self, stream: Stream, ranges: Ranges) -> None:
        """Return when nothing of these is there, nor will be: their senders were told to come again.

        What was stored of them goes, but for what somebody has begun to release. Raises NotNow.
        """
