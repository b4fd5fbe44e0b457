"""Reads what earlier openings left of a stream; cuts torn tails, sets damage aside. Blocks."""

import mmap
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from monitoring import log
from syncd.spool import segment
from syncd.spool.messages import Item
from syncd.spool.stream import Stream
from syncd.spool.writer import sync_directory

_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """One sound record: in which segment, and where its content begins."""

    item: Item
    number: int
    content_at: int


@dataclass(slots=True)
class Left:
    """What a directory holds of one stream."""

    records: dict[int, Found] = field(default_factory=dict)
    withdrawn: dict[int, int] = field(default_factory=dict)
    """Position → number of the segment that says so."""
    guards: dict[int, set[int]] = field(default_factory=dict)
    """Segment → those whose records it withdraws: it has to outlive them."""
    sizes: dict[int, int] = field(default_factory=dict)
    """Bytes of each segment, by number."""


def recover(directory: Path, stream: Stream, aside: Path) -> Left:
    """Everything sound in the segments of a directory; `aside` gets copies of what is not. Raises OSError.

    What is returned is on the disk: a process that was killed before its fdatasync left bytes that can be read and may
    still be lost.
    """
    left = Left()
    _make_sure(directory)
    for path in sorted(directory.glob("*.seg")):
        if not path.stem.isdigit():
            continue
        number = int(path.stem)
        for found in _segment(path, stream, aside):
            _take(left, number, found)
        if path.exists():
            left.sizes[number] = path.stat().st_size
    return left


def _take(left: Left, number: int, found: segment.Sound) -> None:
    """Note the next entry of segment `number`. The last word on a position holds: what a holder set aside as damaged
    may have come again behind its mark."""
    position = found.item.number
    if found.what is segment.What.RECORD:
        left.withdrawn.pop(position, None)
        left.records.setdefault(position, Found(found.item, number, found.content_at))  # left twice by a failed write
        return
    left.withdrawn[position] = number
    if gone := left.records.pop(position, None):
        left.guards.setdefault(number, set()).add(gone.number)


def _make_sure(directory: Path) -> None:
    """Have what can be read of a journal on the disk, its names included. Raises OSError."""
    if not directory.is_dir():
        return
    for path in sorted(directory.glob("*.seg")):
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    for place in (directory, directory.parent, directory.parent.parent):
        sync_directory(place)


def set_aside(aside: Path, name: str, data: bytes | memoryview) -> None:
    """Keep bytes that are not sound for somebody to look at; once, however often they are met. Raises OSError."""
    aside.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = aside / name
    if path.exists():
        return
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _log.error("damage_set_aside", file=str(path), bytes=len(data))


def bad_name(stream: Stream, number: int, start: int) -> str:
    """Name of a damaged piece, by where it was found."""
    return f"{stream.node}-{stream.epoch}-{number:08d}-{start}.bad"


def count_aside(aside: Path) -> int:
    """How many damaged pieces lie there."""
    return sum(1 for _ in aside.glob("*.bad"))


def _segment(path: Path, stream: Stream, aside: Path) -> Iterator[segment.Sound]:
    size = path.stat().st_size
    if size == 0:
        path.unlink()
        return
    cut_at = size
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        start = _start(path, data, stream, aside)
        for found in segment.scan(data, start, segment.seed(stream)) if start else ():
            if isinstance(found, segment.Sound):
                yield found
            elif isinstance(found, segment.Damaged):
                set_aside(aside, bad_name(stream, int(path.stem), found.start), data[found.start : found.end])
            else:
                cut_at = found.start
    if cut_at < size:
        _log.warning("torn_tail_cut", segment=str(path), bytes=size - cut_at)
        os.truncate(path, cut_at)


def _start(path: Path, data: memoryview, stream: Stream, aside: Path) -> int:
    """Where the entries begin; 0 for a file that is not ours, which is set aside whole.

    One that a crash cut within its head is nothing, and deleted.
    """
    try:
        found, start = segment.read_head(data)
        if found == stream:
            return start
        why = f"it is of {found}"
    except segment.NotASegment as error:
        why = str(error)
    whole = segment.head(stream)
    if len(data) < len(whole) and whole.startswith(bytes(data)):
        path.unlink()
        return 0
    _log.error("segment_unreadable", segment=str(path), why=why)
    aside.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.move(path, aside / f"{stream.node}-{stream.epoch}-{path.stem}-whole.bad")
    return 0
