"""Holds streams of others: a journal each, acknowledged only after the disk, known again after a restart.

A receiver holds until a record is stored, a peer until its origin says released. A known position with another id is a
conflict: two writers of one epoch, or a disk that came back from the past; nothing of it is taken.
"""

import asyncio
import time
from collections.abc import Container
from pathlib import Path

from monitoring import log
from monitoring.metrics import syncd as metrics
from syncd.spool.identity import is_name
from syncd.spool.journal import Journal, Kept
from syncd.spool.messages import Item
from syncd.spool.ranges import Positions
from syncd.spool.room import Room
from syncd.spool.stream import Stream

EPOCH_CHARACTERS = 32
ASIDE = "aside"

_log = log.get(__name__)


class Conflict(Exception):
    """A position is known with another id."""


def is_epoch(text: str) -> bool:
    """Whether this can be an epoch; it also becomes a directory's name."""
    return len(text) == EPOCH_CHARACTERS and set(text) <= set("0123456789abcdef")


class HeldStream:
    """What is held of one stream."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.heard_at = time.monotonic()
        """When its origin was last connected."""
        journal.settle(Positions((position, position) for position in journal.withdrawn))  # that is its origin's affair
        self._durable = Positions((position, position) for position in journal.records)
        self._under_way: dict[int, asyncio.Future[None]] = {}

    @property
    def stream(self) -> Stream:
        """Whose it is."""
        return self.journal.stream

    @property
    def held(self) -> Positions:
        """What may be acknowledged: it is on disk, and not released."""
        return self._durable

    def keep(self, item: Item, content: bytes) -> "asyncio.Future[None]":
        """Take a record; done once it is on disk. The same again is the same. Raises Conflict.

        The future raises `syncd.spool.journal.NotWritten` when the disk does not take it.
        """
        known = self.journal.records.get(item.number)
        if known is None:
            done = self.journal.append(item, content)
            self._under_way[item.number] = done
            done.add_done_callback(lambda done: self._settled(item.number, done))
            return done
        if (known.item.id, known.item.crc) != (item.id, item.crc):
            metrics.spool_conflicts.inc()
            raise Conflict(f"position {item.number} of {self.stream} is known with another id")
        if item.number in self._under_way:
            return self._under_way[item.number]
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def release(self, positions: Positions) -> list[Kept]:
        """Forget these; returns those that were held."""
        records = self.journal.records
        wanted = positions if positions.count < len(records) else [each for each in records if each in positions]
        gone = [(position, records[position]) for position in wanted if position in records]
        for position, _ in gone:
            self.journal.release(position)
            self._durable.discard(position)
        return [kept for _, kept in gone]

    def withdraw(self, positions: Positions) -> None:
        """Forget these for good: they come back at no restart."""
        for position, kept in [each for each in self.journal.records.items() if each[0] in positions]:
            self.journal.withdraw(kept)
            self._durable.discard(position)
        self.journal.settle(positions)

    def _settled(self, position: int, done: "asyncio.Future[None]") -> None:
        if self._under_way.get(position) is not done:
            return  # it was taken back, and came again
        del self._under_way[position]
        if not done.cancelled() and done.exception() is None and position in self.journal.records:
            self._durable.add(position)


class Holding:
    """Every stream that is held for others, below one directory: `<node>/<epoch>/*.seg`."""

    def __init__(self, directory: Path, room: Room, aside: Path) -> None:
        self._directory, self._aside, self.room = directory, aside, room
        self.streams: dict[Stream, HeldStream] = {}

    def load(self) -> None:
        """Find what earlier runs held. Blocks. Raises OSError."""
        for path in sorted(self._directory.glob("*/*")):
            stream = Stream(path.parent.name, path.name)
            if path.is_dir() and is_name(stream.node) and is_epoch(stream.epoch):
                self.streams[stream] = HeldStream(Journal.load(path, stream, self.room, self._aside))

    def of(self, stream: Stream) -> HeldStream:
        """What is held of a stream; a new one is empty. Its name has been checked."""
        if stream not in self.streams:
            directory = self._directory / stream.node / stream.epoch
            self.streams[stream] = HeldStream(Journal(directory, stream, self.room, self._aside))
        return self.streams[stream]

    async def tidy(self, in_use: Container[Stream]) -> None:
        """Forget streams of which nothing is held and for which nobody is connected."""
        empty = [each for each, held in self.streams.items() if not held.journal.records and each not in in_use]
        for stream in empty:
            await self.streams[stream].journal.close()  # usable again: somebody may connect meanwhile
            if stream not in in_use and not self.streams[stream].journal.records:
                del self.streams[stream]

    @property
    def count(self) -> int:
        """Records held."""
        return sum(len(held.journal.records) for held in list(self.streams.values()))

    async def close(self) -> None:
        """Finish what is being written."""
        for held in self.streams.values():
            await held.journal.close()
