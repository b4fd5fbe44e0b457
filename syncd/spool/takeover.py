"""Ships what we hold of a peer that is gone: to the receiver, which is asked first what it has already.

It fences nobody. An origin that lives after all, or comes back, ships the same records under the same positions, and
each is stored once. Records that were stored long ago are only found to be so here, and released.
"""

import asyncio
import time
from collections.abc import Iterable

from monitoring import log
from monitoring.metrics import syncd as metrics
from syncd.spool.hold import HeldStream, Holding
from syncd.spool.identity import Identity
from syncd.spool.journal import Kept
from syncd.spool.link import Link, Target
from syncd.spool.messages import Lane, Purpose
from syncd.spool.ranges import Positions
from syncd.spool.serve import Server
from syncd.spool.stream import Ranges, Stream

SILENT_S = 30.0
"""A stream whose origin was not connected for so long is taken over."""
LOOK_S = 1.0
_LANES: tuple[Lane, ...] = ("small", "large")

_log = log.get(__name__)


class Takeovers:
    """The takeovers of one node. `run` them until cancelled."""

    def __init__(
        self, holding: Holding, server: Server, receiver: Target, identity: Identity, silent_s: float = SILENT_S
    ) -> None:
        self._holding, self._server, self._receiver, self._identity = holding, server, receiver, identity
        self._silent_s = silent_s
        self._running: dict[Stream, list[asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Begin a takeover where an origin is silent; end it where that is back, or nothing is left."""
        async with asyncio.TaskGroup() as group:
            while True:
                for stream, held in list(self._holding.streams.items()):
                    if stream not in self._running and self._is_due(stream, held):
                        self._begin(group, stream, held)
                for stream in [each for each in self._running if not self._is_due(each, self._holding.of(each))]:
                    for task in self._running.pop(stream):
                        task.cancel()
                await asyncio.sleep(min(LOOK_S, self._silent_s))

    def _is_due(self, stream: Stream, held: HeldStream) -> bool:
        silent_s = time.monotonic() - held.heard_at
        return bool(held.journal.records) and stream not in self._server.connected and silent_s > self._silent_s

    def _begin(self, group: asyncio.TaskGroup, stream: Stream, held: HeldStream) -> None:
        _log.warning("takeover", stream=str(stream), records=len(held.journal.records))
        lanes = {kept.item.lane for kept in held.journal.records.values()} | {_LANES[0]}
        cargo = Orphaned(held)
        self._running[stream] = [
            group.create_task(Link(self._receiver, Purpose.TAKEOVER, lane, cargo, self._identity).run())
            for lane in _LANES
            if lane in lanes
        ]


class Orphaned:
    """What is held of one origin, as cargo (`syncd.spool.link.Cargo`)."""

    def __init__(self, held: HeldStream) -> None:
        self._held = held

    @property
    def stream(self) -> Stream:
        """The origin's."""
        return self._held.stream

    def welcomed(self, link: Link, held: Positions, stored: Positions) -> Iterable[Kept]:
        """Forget what is stored; ship what the receiver does not hold."""
        self._held.release(stored)
        records = self._held.journal.records
        return [each for each in records.values() if each.item.lane == link.lane and each.item.number not in held]

    async def content(self, kept: Kept) -> bytes | None:
        """The bytes, unless they were released meanwhile. Damaged ones are left for the origin's own copy."""
        try:
            return await self._held.journal.read(kept)
        except (OSError, ValueError) as error:
            if self._held.journal.records.get(kept.item.number) is kept:
                _log.error("held_record_damaged", stream=str(self.stream), error=str(error))
            return None

    def held(self, link: Link, ranges: Ranges) -> None:
        """The receiver's copy is no reason to drop ours: it may lose its disk before it stores."""

    def stored(self, link: Link, ranges: Ranges) -> None:
        """In the quarantine: forget it."""
        metrics.spool_taken_over.inc(len(self._held.release(Positions(ranges))))

    def withdrawn(self, link: Link, ranges: Ranges) -> None:
        """Said to origins only."""

    def went_down(self, link: Link) -> None:
        """The link connects again by itself."""
