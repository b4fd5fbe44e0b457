"""Writes a journal's segments: append, fdatasync, a new file when the disk fails. Blocks; one thread at a time.

A file counts only when it and every new directory above it are on disk; nothing is ever written into a file that an
earlier opening left behind, nor behind a write that failed.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from monitoring import log
from syncd.spool import segment
from syncd.spool.messages import Item
from syncd.spool.stream import Stream

SEGMENT_BYTES = 64 * 1024**2
"""A segment that has reached this is closed; a single record may make it longer."""
_WRITE_BYTES = 4 * 1024**2

Entry = tuple[segment.What, Item, bytes]
Place = tuple[int, int]
"""Segment number, and where in its file the content begins."""

_log = log.get(__name__)


def path_of(directory: Path, number: int) -> Path:
    """The file of a segment."""
    return directory / f"{number:08d}.seg"


class Writer:
    """The writing end of one stream's directory. `first` is above every number that is there."""

    def __init__(self, directory: Path, stream: Stream, first: int = 1, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory, self._stream = directory, stream
        self._seed = segment.seed(stream)
        self._next, self._segment_bytes = first, segment_bytes
        self._file = -1
        self.active = 0
        """Number of the segment that is being written; 0 when there is none."""
        self.size_bytes = 0

    def open(self) -> None:
        """Have a segment to write into, durable with its directory. Raises OSError."""
        if self.active:
            return
        _make_durable(self._directory)
        number, self._next = self._next, self._next + 1
        path = path_of(self._directory, number)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            start = segment.head(self._stream)
            _write(file, [start])
            os.fsync(file)
            sync_directory(self._directory)
        except OSError:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        self._file, self.active, self.size_bytes = file, number, len(start)

    def write(self, entries: Sequence[Entry]) -> list[Place]:
        """Return when all entries are on disk, with the place of each. Raises OSError when a new file fails too."""
        try:
            return self._try(entries)
        except OSError as error:
            _log.error("segment_set_aside", segment=str(path_of(self._directory, self.active)), error=str(error))
        return self._try(entries)

    def close(self) -> None:
        """End the active segment; what is in it is on disk already."""
        if self.active:
            os.close(self._file)
            self._file, self.active, self.size_bytes = -1, 0, 0

    def _try(self, entries: Sequence[Entry]) -> list[Place]:
        self.open()
        places, parts, at = list[Place](), list[bytes](), self.size_bytes
        for what, item, content in entries:
            places.append((self.active, at + segment.PREFIX_BYTES))
            made = segment.entry(self._seed, what, item, content)
            parts += made
            at += sum(map(len, made))
        try:
            _write(self._file, parts)
            os.fdatasync(self._file)
        except OSError:
            self._leave()
            raise
        self.size_bytes = at
        if at >= self._segment_bytes:
            self.close()
        return places

    def _leave(self) -> None:
        """Cut what a failed write may have left, as far as the disk lets us, and never write into that file again.

        What cannot be cut is found at the next start: unfinished, or whole and then only a repeat.
        """
        path = path_of(self._directory, self.active)
        try:
            if self.size_bytes == len(segment.head(self._stream)):
                path.unlink()
            else:
                os.ftruncate(self._file, self.size_bytes)
        except OSError as error:
            _log.error("segment_not_cut", segment=str(path), error=str(error))
        self.close()


def sync_directory(directory: Path) -> None:
    """Make names in a directory durable. Raises OSError."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _make_durable(directory: Path) -> None:
    if directory.is_dir():
        return
    _make_durable(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    sync_directory(directory.parent)


def _write(file: int, parts: Sequence[bytes]) -> None:
    """Write everything, in few calls."""
    waiting, size = list[bytes](), 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= _WRITE_BYTES:
            _write_whole(file, b"".join(waiting))
            waiting, size = [], 0
    _write_whole(file, b"".join(waiting))


def _write_whole(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
