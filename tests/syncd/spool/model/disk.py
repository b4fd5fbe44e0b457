"""Disks that lose at a power cut what was not synced, wholly or in part: the calls that a journal makes, watched."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from syncd.spool import segment


class PowerCut(BaseException):
    """The power went amid this call."""


class Disk:
    """Stands in for the module `os` in `writer` and `recover`; real files below `root`, a directory a host."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root, self._rng = root, rng
        self._paths: dict[int, Path] = {}
        self._synced: dict[Path, int] = {}
        self._named: set[Path] = set()
        self._read: dict[Path, tuple[int, frozenset[bytes]]] = {}
        self._depth = len(root.parts)
        self.fuse = -1
        """After so many more calls the power goes; -1: it stays."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, mode: int = 0o600) -> int:
        """As `os.open`."""
        self._burn()
        opened = os.open(path, flags, mode)
        self._paths[opened] = Path(path)
        if flags & os.O_CREAT:
            self._synced[Path(path)] = 0
        return opened

    def close(self, opened: int) -> None:
        """As `os.close`."""
        self._paths.pop(opened, None)
        os.close(opened)

    def write(self, opened: int, data: Any) -> int:
        """As `os.write`; when the power goes, a part of it."""
        if self.fuse == 0:
            os.write(opened, bytes(data)[: self._rng.randrange(len(data) + 1)])
        self._burn()
        return os.write(opened, data)

    def fsync(self, opened: int) -> None:
        """As `os.fsync`."""
        self._burn()
        path = self._paths.get(opened)
        if path is None:
            return  # what is set aside: no copy relies on it
        if path.is_dir():
            self._named.update(path.iterdir())
        else:
            self._synced[path] = os.fstat(opened).st_size

    def fdatasync(self, opened: int) -> None:
        """As `os.fdatasync`."""
        self.fsync(opened)

    def ftruncate(self, opened: int, size: int) -> None:
        """As `os.ftruncate`."""
        os.ftruncate(opened, size)
        path = self._paths[opened]
        self._synced[path] = min(size, self._synced[path])

    def stopped(self, host: str) -> None:
        """Its processes are gone: close what they had open."""
        for opened in [opened for opened, path in self._paths.items() if self._is_of(path, host)]:
            self.close(opened)

    def power_cut(self, host: str) -> None:
        """Lose what was not synced: names, and ends of files, which may come back cut, or as zeros."""
        for path in sorted((self.root / host).rglob("*.seg")):
            size, synced = path.stat().st_size, self._synced.get(path, 0)
            if path not in self._named and self._rng.random() < 0.5:
                path.unlink()
                continue
            kept = self._rng.randint(min(synced, size), size)
            os.truncate(path, kept)
            if self._rng.random() < 0.3:
                os.truncate(path, size)
            self._synced[path] = path.stat().st_size
            self._named.add(path)

    def lost(self, host: str) -> None:
        """Another disk, empty, in place of the old one."""
        shutil.rmtree(self.root / host, ignore_errors=True)
        for path in [path for path in self._synced if self._is_of(path, host)]:
            del self._synced[path]
            self._named.discard(path)
            self._read.pop(path, None)
        (self.root / host).mkdir()

    def durable(self, host: str) -> set[bytes]:
        """Ids of the records that a power cut would leave on this host."""
        found = set[bytes]()
        for path, synced in list(self._synced.items()):
            if path in self._named and self._is_of(path, host):
                found |= self._ids(path, synced)
        return found

    def _ids(self, path: Path, synced: int) -> frozenset[bytes]:
        """Ids in the synced part of a file; nothing once it is deleted."""
        if not path.exists():
            return frozenset()
        known = self._read.get(path)
        if known is None or known[0] != synced:
            known = self._read[path] = synced, frozenset(_ids_in(path.read_bytes()[:synced]))
        return known[1]

    def _is_of(self, path: Path, host: str) -> bool:
        return path.parts[self._depth] == host

    def _burn(self) -> None:
        if self.fuse == 0:
            raise PowerCut
        if self.fuse > 0:
            self.fuse -= 1


def _ids_in(data: bytes) -> Iterator[bytes]:
    try:
        stream, start = segment.read_head(data)
    except segment.NotASegment:
        return
    for found in segment.scan(memoryview(data), start, segment.seed(stream)):
        if isinstance(found, segment.Sound) and found.what is segment.What.RECORD:
            yield found.item.id.rstrip(b"\0")
