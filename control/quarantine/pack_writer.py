"""The writing side of the packs: the receiver alone appends, syncs, seals, and moves into the object store.

A batch is appended and synced to the disk before any row that points into it is committed. What a crash or an error
leaves behind the last synced byte belongs to nobody, and is cut off.
"""

import asyncio
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from ulid import ULID

from control.quarantine import frames, packs
from control.quarantine.frames import Press
from control.quarantine.packs import Packs, Place
from monitoring import log
from monitoring.metrics import control as metrics

SEAL_BYTES = 64 << 20
IDLE_S = 60.0
"""A pack of a day that is over is sealed when nothing was written to it for so long."""

_log = log.get(__name__)


class Busy(OSError):
    """Another process writes packs in this directory."""


@dataclass(slots=True)
class _Open:
    """A pack that is being written; `synced` bytes of it are on the disk, what lies behind them is nobody's."""

    name: str
    path: Path
    synced: int = 0
    written_at: float = field(default_factory=time.monotonic)


class PackWriter:
    """Appends mail to packs. One process a directory; one batch at a time. Everything but `seal` blocks."""

    def __init__(self, place: Packs, dictionary: bytes = b"") -> None:
        """Raises Busy, and OSError for a directory that cannot be used."""
        self._objects, self._directory = place.objects, place.directory
        self.press = Press(dictionary)
        self._open: dict[tuple[date, int], _Open] = {}
        self._lock = threading.Lock()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_file = os.open(self._directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._cut_torn_tails()
        except OSError as error:
            os.close(self._lock_file)
            if isinstance(error, BlockingIOError):
                raise Busy(f"{self._directory}: another receiver writes here") from error
            raise

    def close(self) -> None:
        """Let another process write here."""
        os.close(self._lock_file)

    @contextmanager
    def batch(self) -> Iterator["Batch"]:
        """Mail to be written together: synced when the block ends. An error undoes all of it. Raises OSError."""
        with self._lock:
            batch = Batch(self)
            try:
                yield batch
                batch.sync()
            except BaseException:
                batch.undo()
                raise
            finally:
                batch.close()

    async def seal(self) -> None:
        """Move every pack that is full, or whose day is over, into the object store. Raises Away, OSError."""
        for path, size in await asyncio.to_thread(self._sealable):
            name = packs.of_local(path.name)
            if name and size:
                await self._objects.put(name, path)
                _log.info("pack_sealed", pack=name, bytes=size)
            await asyncio.to_thread(path.unlink)

    def pack_for(self, day: date, days: int) -> _Open:
        """The pack that takes this mail now."""
        found = self._open.get((day, days))
        if found is None or found.synced >= SEAL_BYTES:
            name = packs.object_name(day, days, str(ULID()))
            found = self._open[day, days] = _Open(name, self._directory / packs.local_name(name))
        return found

    def sync_directory(self) -> None:
        """Have the names of new packs on the disk. Raises OSError."""
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def abandon(self, pack: _Open) -> None:
        """Never append to this one again: nobody knows what the disk did with it."""
        self._open = {key: each for key, each in self._open.items() if each is not pack}

    def _sealable(self) -> list[tuple[Path, int]]:
        """The packs that nobody writes any more, with their sizes."""
        today = packs.today()
        with self._lock:
            for (day, days), each in list(self._open.items()):
                if each.synced >= SEAL_BYTES or (day != today and time.monotonic() - each.written_at > IDLE_S):
                    del self._open[day, days]
            writing = {each.path for each in self._open.values()}
            found = [(path, path.stat().st_size) for path in sorted(self._directory.glob("*.pack"))]
        metrics.packs_open_bytes.set(sum(size for _, size in found))
        return [(path, size) for path, size in found if path not in writing]

    def _cut_torn_tails(self) -> None:
        """What an earlier process left is never appended to again; it is sealed as far as it is whole."""
        for path in self._directory.glob("*.pack"):
            with path.open("r+b") as pack:
                whole = 0
                for offset, found in frames.walk(pack):
                    whole = offset + found.size
                if whole < pack.seek(0, os.SEEK_END):
                    _log.warning("pack_cut", pack=path.name, at=whole, cut=pack.tell() - whole)
                    pack.truncate(whole)
                    os.fsync(pack.fileno())


class Batch:
    """Mail on its way into packs; see `PackWriter.batch`."""

    def __init__(self, writer: PackWriter) -> None:
        self._writer = writer
        self._files: dict[str, tuple[_Open, int, int]] = {}
        """Pack, descriptor, and its end with what this batch has written."""

    def add(self, day: date, days: int, txn: str, body: bytes) -> Place:
        """Append one mail of this day and retention class. Raises OSError, ValueError (too large)."""
        entry = self._writer.press.entry(txn, body)
        pack, descriptor, end = self._file(day, days)
        _write(descriptor, entry, end)
        self._files[pack.name] = pack, descriptor, end + len(entry)
        return Place(pack.name, end, len(entry))

    def sync(self) -> None:
        """Have everything on the disk. Raises OSError; then `undo` is to follow."""
        try:
            for _, descriptor, _ in self._files.values():
                os.fdatasync(descriptor)
            if any(not pack.synced for pack, _, _ in self._files.values()):
                self._writer.sync_directory()
        except OSError:
            for pack, _, _ in self._files.values():
                self._writer.abandon(pack)  # after a failed sync a later one may lie (the kernel forgot the error)
            raise
        for pack, _, end in self._files.values():
            pack.synced, pack.written_at = end, time.monotonic()

    def undo(self) -> None:
        """Cut off what was not synced, so that a disk that is full is not filled further."""
        for pack, descriptor, _ in self._files.values():
            try:
                os.ftruncate(descriptor, pack.synced)
            except OSError as error:
                _log.warning("pack_abandoned", pack=pack.name, error=str(error))
                self._writer.abandon(pack)

    def close(self) -> None:
        """Give the descriptors back."""
        for _, descriptor, _ in self._files.values():
            os.close(descriptor)

    def _file(self, day: date, days: int) -> tuple[_Open, int, int]:
        pack = self._writer.pack_for(day, days)
        if pack.name not in self._files:
            descriptor = os.open(pack.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            self._files[pack.name] = pack, descriptor, pack.synced
        return self._files[pack.name]


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
