"""The quarantine of the simulation: what a database would hold, committed whole or not at all."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from syncd.spool.ranges import Positions
from syncd.spool.record import Kind
from syncd.spool.stream import Held, NotNow, Ranges, Stream

if TYPE_CHECKING:
    from tests.syncd.spool.model.world import World


class SimStores:
    """`Stores` without a fault of its own; it outlives the receiver that asks it."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._stored: dict[Stream, Positions] = {}
        self.rows: dict[tuple[Stream, int], str] = {}
        """Ids of kept mail by position."""
        self.is_away = False

    async def stored(self, stream: Stream) -> Ranges:
        """See `Stores.stored`."""
        await self._think()
        return self._stored.get(stream, Positions()).ranges()

    async def store(self, batch: Sequence[Held]) -> None:
        """See `Stores.store`."""
        found = [(held, msgspec.json.decode(held.header), held.read_body()) for held in batch]
        await self._think()
        for held, header, body in found:
            done = self._stored.setdefault(held.stream, Positions())
            if held.position in done:
                continue
            done.add(held.position)
            if header["kind"] == Kind.KEPT:
                if body != body_of(header["id"]):
                    self._world.failed(f"{header['id']} was stored with another body")
                self.rows[held.stream, held.position] = header["id"]
        await self._think()

    async def withdraw(self, stream: Stream, ranges: Ranges) -> None:
        """See `Stores.withdraw`."""
        await self._think()
        self._stored.setdefault(stream, Positions()).update(ranges)
        for place in [place for place in self.rows if place[0] == stream and place[1] in Positions(ranges)]:
            del self.rows[place]

    async def _think(self) -> None:
        await asyncio.sleep(self._world.rng.expovariate(200))
        if self.is_away:
            raise NotNow("away")


def body_of(record_id: str) -> bytes:
    """A body that names its record, some of them longer than the small lane takes."""
    return record_id.encode() * (1 + (sum(record_id.encode()) % 7 == 0) * 40)
