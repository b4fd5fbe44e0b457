"""One connection of an origin at its holder: what it is for, what is not acknowledged yet, how it ends."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from syncd.spool.assembly import Assembly
from syncd.spool.frames import Kind
from syncd.spool.hold import HeldStream
from syncd.spool.messages import Code, Farewell, Purpose, greeting, ranges_frames
from syncd.spool.ranges import Positions
from syncd.spool.stream import Ranges, Stream
from syncd.spool.wire import Wire


class Refused(Exception):
    """The peer may not do this."""

    def __init__(self, code: Code, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


class Keeper(Protocol):
    """What differs between a receiver and a peer."""

    @property
    def purposes(self) -> Collection[Purpose]:
        """What may be asked of it."""

    async def stored(self, stream: Stream) -> Ranges:
        """Positions that are stored for good, as far as it can tell within a second."""

    def kept(self, held: HeldStream, position: int) -> None:
        """One more record is on disk."""

    def withdrawn(self, held: HeldStream, positions: Positions) -> None:
        """The origin takes these back."""


@dataclass(slots=True, eq=False)
class Session:
    """One connection of an origin, after its greeting."""

    wire: Wire
    held: HeldStream
    purpose: Purpose
    stored: Positions
    assembly: Assembly = field(default_factory=lambda: Assembly(1))
    to_say: Positions = field(default_factory=Positions)
    """Positions that are on disk and not acknowledged yet."""
    unsynced_bytes: int = 0
    synced: asyncio.Event = field(default_factory=asyncio.Event)

    def safe(self, position: int) -> None:
        """Acknowledge a position, together with the others of this turn of the loop."""
        if not self.to_say:
            asyncio.get_running_loop().call_soon(self._say)
        self.to_say.add(position)

    def end(self, kind: Kind, code: Code, words: str) -> None:
        """Say why, and close behind it."""
        if self.wire.is_open:
            self._say()
            self.wire.say(kind, greeting(kind, Farewell(code, words)))
            self.wire.writer.close()

    def _say(self) -> None:
        ranges, self.to_say = self.to_say.ranges(), Positions()
        if self.wire.is_open:
            self.wire.say_all(Kind.HELD, ranges_frames(Kind.HELD, ranges))
