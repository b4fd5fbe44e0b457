"""The journal of one stream: records appended by group commit, read back, released; segments go with their last one."""

import asyncio
import os
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from monitoring import log
from monitoring.metrics import syncd as metrics
from syncd.spool.messages import Item
from syncd.spool.ranges import Positions
from syncd.spool.recover import Left, bad_name, recover, set_aside
from syncd.spool.room import Room
from syncd.spool.segment import END_BYTES, PREFIX_BYTES, What
from syncd.spool.stream import Stream
from syncd.spool.writer import Entry, Place, Writer, path_of

COMMIT_BYTES = 16 * 1024**2
"""The most one commit writes, so that a small record never waits for more than this."""
TIDY_BYTES = 1024**2
"""An active segment this big is closed when nothing in it is needed any more."""

_log = log.get(__name__)


class NotWritten(Exception):
    """The disk did not take a record; the text says why."""


@dataclass(slots=True, eq=False)
class Kept:
    """One record in a journal. `place` is None until it is on disk; `content` is None when it has to be read."""

    item: Item
    place: Place | None = None
    content: bytes | None = None
    holders: frozenset[str] = frozenset()
    """Who else is known to hold it; for `syncd.spool.copies`."""
    is_counted: bool = False
    """Whether it is among its stream's unreleased ones; for `syncd.spool.copies`."""


@dataclass(slots=True)
class _Segment:
    size_bytes: int = 0
    live: int = 0
    guards: set[int] = field(default_factory=set)
    """Segments whose records this one withdraws: it has to outlive them."""


@dataclass(slots=True)
class _Pending:
    entry: Entry
    kept: Kept
    """The record that is written or withdrawn."""
    done: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Journal:
    """All calls from one event loop. Files are written and read in threads."""

    def __init__(self, directory: Path, stream: Stream, room: Room, aside: Path, left: Left | None = None) -> None:
        left = left or Left()
        self.stream, self.directory = stream, directory
        self.records: dict[int, Kept] = {}
        """By position, what is neither released nor withdrawn, also what is not on disk yet."""
        self.withdrawn = dict(left.withdrawn)
        """Position → segment of its mark (0: not on disk), of withdrawals that the receiver has not confirmed."""
        self._room, self._aside = room, aside
        self._segments = {
            number: _Segment(size, guards=left.guards.get(number, set())) for number, size in left.sizes.items()
        }
        self._writer = Writer(directory, stream, max(left.sizes, default=0) + 1)
        self._pending: list[_Pending] = []
        self._task: asyncio.Task[None] | None = None
        self._is_committing = self._is_closing = False
        self._live_bytes = 0
        self._garbage: list[int] = []
        for position, found in sorted(left.records.items()):
            self._count(Kept(found.item, (found.number, found.content_at)), position)
        for number in self.withdrawn.values():
            self._segments[number].live += 1
        self._drop_unneeded()
        self._unlink()

    @classmethod
    def load(cls, directory: Path, stream: Stream, room: Room, aside: Path) -> Self:
        """The journal with what earlier openings left in it. Blocks. Raises OSError."""
        return cls(directory, stream, room, aside, recover(directory, stream, aside))

    @property
    def has_unsettled(self) -> bool:
        """Whether anything in it still has to be told to the receiver."""
        return bool(self.records or self.withdrawn)

    @property
    def live_bytes(self) -> int:
        """Bytes of the records that are not released."""
        return self._live_bytes

    @property
    def oldest_at(self) -> float:
        """Unix time of the oldest record; 0 when there is none."""
        first = next(iter(self.records.values()), None)
        return first.item.at if first else 0.0

    def open(self) -> None:
        """Prove that it can be written: makes its first segment. Blocks. Raises OSError."""
        self._writer.open()
        self._segments.setdefault(self._writer.active, _Segment())

    def append(self, item: Item, content: bytes) -> "asyncio.Future[None]":
        """Take a record; the future is done once it is on disk, or raises NotWritten. `records` has it at once."""
        kept = Kept(item, None, content)
        self.records[item.number] = kept
        self._add_bytes(item.content_bytes)
        self._room.memory_left -= item.content_bytes
        return self._put(_Pending((What.RECORD, item, content), kept))

    def withdraw(self, kept: Kept) -> None:
        """Give up a record that nobody relies on, also one that is released; its mark is on disk a little later.

        The mark stays until it is `settled`.
        """
        position = kept.item.number
        if position in self.withdrawn:
            return
        self._forget(position)
        self.withdrawn[position] = 0
        gone = Item(position, kept.item.kind, kept.item.id, 0, 0, 0, time.time())
        self._put(_Pending((What.WITHDRAWN, gone, b""), kept))

    def settle(self, positions: Positions) -> None:
        """The receiver will never have these: their marks are needed no more."""
        for position in [position for position in self.withdrawn if position in positions]:
            if number := self.withdrawn.pop(position):
                self._unneeded_by_one(number)

    def release(self, position: int) -> bool:
        """Forget a record that is stored, or whose keeper is gone; False when there is none."""
        return self._forget(position) is not None

    async def read(self, kept: Kept) -> bytes:
        """The content of a record. Raises OSError, or ValueError when the disk gives other bytes than were written."""
        if kept.content is not None:
            return kept.content
        return await asyncio.to_thread(self.read_now, kept)

    def read_now(self, kept: Kept) -> bytes:
        """The same, blocking."""
        if kept.content is not None:
            return kept.content
        assert kept.place
        number, at = kept.place
        with path_of(self.directory, number).open("rb") as file:
            data = os.pread(file.fileno(), kept.item.content_bytes, at)
        if zlib.crc32(data) != kept.item.crc:
            raise ValueError(f"record {kept.item.number} of {self.stream} is damaged on disk")
        return data

    def set_aside(self, kept: Kept) -> None:
        """Keep a damaged record for somebody to look at, and never ship it. Blocks. Raises OSError."""
        assert kept.place
        number, start = kept.place[0], kept.place[1] - PREFIX_BYTES
        with path_of(self.directory, number).open("rb") as file:
            data = os.pread(file.fileno(), PREFIX_BYTES + kept.item.content_bytes + END_BYTES, start)
        set_aside(self._aside, bad_name(self.stream, number, start), data)

    async def close(self) -> None:
        """Finish what is being written and end the segment. An empty journal leaves nothing behind.

        It can be appended to again, in a new segment.
        """
        self._is_closing = True
        self._wake()
        while self._task is not None:
            await asyncio.wait([self._task])

    def _put(self, pending: _Pending) -> "asyncio.Future[None]":
        pending.done.add_done_callback(_look_at)
        self._pending.append(pending)
        self._wake()
        return pending.done

    def _wake(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._work())
            self._task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()):
            raise error
        if self._has_work():  # it came between the last look and the end
            self._wake()

    def _has_work(self) -> bool:
        return bool(self._pending or self._garbage or self._is_closing or self._is_idle_and_big())

    async def _work(self) -> None:
        """Do what there is to do with files, one thing after another. The journal owns this task; `close` awaits it."""
        while self._has_work():
            if self._pending:
                await self._commit(self._next_batch())
            if self._is_idle_and_big() or (self._is_closing and not self._pending):
                self._writer.close()
                self._is_closing = False
            self._drop_unneeded()
            if self._garbage:
                await asyncio.to_thread(self._unlink)

    async def _commit(self, batch: list[_Pending]) -> None:
        began = time.perf_counter()
        self._is_committing = True
        try:
            places = await asyncio.to_thread(self._write, [each.entry for each in batch])
        except OSError as error:
            self._fail(batch, f"the journal's disk: {error.strerror or error}")
            return
        finally:
            self._is_committing = False
        metrics.spool_fsync_seconds.observe(time.perf_counter() - began)
        metrics.spool_fsync_records.observe(len(batch))
        for pending, place in zip(batch, places, strict=True):
            self._written(pending, place)

    def _write(self, entries: list[Entry]) -> list[Place]:
        """Blocks. Raises OSError, but not before it has made what room it can."""
        try:
            return self._writer.write(entries)
        except OSError:
            if not self._garbage:
                raise
            self._unlink()
            return self._writer.write(entries)

    def _written(self, pending: _Pending, place: Place) -> None:
        here = self._segments.setdefault(place[0], _Segment())
        here.size_bytes = max(here.size_bytes, place[1] + pending.entry[1].content_bytes)
        kept, what = pending.kept, pending.entry[0]
        if what is What.WITHDRAWN:
            here.guards.update({kept.place[0]} if kept.place else ())
            if kept.item.number in self.withdrawn:
                self.withdrawn[kept.item.number] = place[0]
                here.live += 1
        else:
            kept.place = place
            if self.records.get(kept.item.number) is kept:
                here.live += 1
                if self._room.memory_left < 0:
                    self._drop_content(kept)
        if not pending.done.done():
            pending.done.set_result(None)

    def _fail(self, batch: Iterable[_Pending], why: str) -> None:
        for pending in batch:
            kept = pending.kept
            if self.records.get(kept.item.number) is kept:
                self._forget(kept.item.number)
            if not pending.done.done():
                pending.done.set_exception(NotWritten(why))

    def _next_batch(self) -> list[_Pending]:
        size = count = 0
        for pending in self._pending:
            size += pending.entry[1].content_bytes
            count += 1
            if size >= COMMIT_BYTES:
                break
        batch, self._pending = self._pending[:count], self._pending[count:]
        return batch

    def _count(self, kept: Kept, position: int) -> None:
        assert kept.place
        self.records[position] = kept
        self._add_bytes(kept.item.content_bytes)
        self._segments.setdefault(kept.place[0], _Segment()).live += 1

    def _forget(self, position: int) -> Kept | None:
        kept = self.records.pop(position, None)
        if kept is None:
            return None
        self._add_bytes(-kept.item.content_bytes)
        self._drop_content(kept)
        if kept.place:
            self._unneeded_by_one(kept.place[0])
        return kept

    def _unneeded_by_one(self, number: int) -> None:
        here = self._segments[number]
        here.live -= 1
        if not here.live and not self._is_committing:
            self._drop_unneeded()
            if self._garbage or self._is_idle_and_big():
                self._wake()

    def _add_bytes(self, count: int) -> None:
        self._live_bytes += count
        self._room.used_bytes += count

    def _drop_content(self, kept: Kept) -> None:
        if kept.content is not None:
            kept.content = None
            self._room.memory_left += kept.item.content_bytes

    def _drop_unneeded(self) -> None:
        """Mark the segments that nothing needs for deletion. Never amid a commit, whose thread moves on to new ones."""
        while unneeded := [number for number, each in self._segments.items() if self._is_unneeded(number, each)]:
            for number in unneeded:
                del self._segments[number]
                self._garbage.append(number)

    def _is_unneeded(self, number: int, each: _Segment) -> bool:
        guarded = each.guards & self._segments.keys() - {number}
        return not each.live and not guarded and number != self._writer.active

    def _is_idle_and_big(self) -> bool:
        here = self._segments.get(self._writer.active)
        return bool(here and not here.live and not self._pending and here.size_bytes > TIDY_BYTES)

    def _unlink(self) -> None:
        """Delete what is not needed, and the directory with the last of it."""
        try:
            while self._garbage:
                path_of(self.directory, self._garbage.pop()).unlink(missing_ok=True)
            if not self._segments and not self._is_committing and self.directory.is_dir():
                self.directory.rmdir()
        except OSError as error:  # what stays is found at the next start, and released again
            _log.error("segment_not_deleted", error=str(error))


def _look_at(done: "asyncio.Future[None]") -> None:
    """Whoever does not wait for a commit need not hear that it failed."""
    if not done.cancelled():
        done.exception()
