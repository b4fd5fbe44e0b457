"""Reads journals without touching them: what a directory's segments hold, what in them is damaged. Blocks.

For people, while the process runs or is dead. What was released is told from what was not by the receiver alone: a
segment holds both until its last record goes.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from syncd.spool import segment
from syncd.spool.messages import Item
from syncd.spool.stream import Stream


@dataclass(slots=True)
class Segment:
    """One file of a journal."""

    path: Path
    size_bytes: int
    stream: Stream | None = None
    trouble: str = ""
    """Why it cannot be read at all."""
    records: list[tuple[Item, int]] = field(default_factory=list)
    """Every sound record, with where its content begins."""
    withdrawn: set[int] = field(default_factory=set)
    """Positions whose withdrawal it holds."""
    damaged: list[tuple[int, int]] = field(default_factory=list)
    """Bytes from, to, of what is not sound."""
    torn_bytes: int = 0
    """At its end, of a write that was never finished; normal after a crash, and while one is under way."""

    @property
    def is_sound(self) -> bool:
        """Whether everything that was ever finished can be read."""
        return not self.trouble and not self.damaged


def survey(directory: Path) -> Iterator[Segment]:
    """Every segment below a directory, in the order of their names. Raises OSError for a directory that is none."""
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory} is no directory")
    for path in sorted(directory.rglob("*.seg")):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue  # released meanwhile
        except OSError as error:
            yield Segment(path, 0, trouble=str(error))
            continue
        yield _read(path, data)


def content(found: Segment, item: Item, content_at: int) -> tuple[bytes, bytes]:
    """Header (JSON) and body of a record. Raises OSError, or ValueError when its bytes are others by now."""
    with found.path.open("rb") as file:
        file.seek(content_at)
        data = file.read(item.content_bytes)
    if zlib.crc32(data) != item.crc:
        raise ValueError(f"record {item.number} in {found.path} is damaged")
    return data[: item.header_bytes], data[item.header_bytes :]


def _read(path: Path, data: bytes) -> Segment:
    found = Segment(path, len(data))
    try:
        found.stream, start = segment.read_head(data)
    except segment.NotASegment as error:
        found.trouble = str(error)
        return found
    for each in segment.scan(memoryview(data), start, segment.seed(found.stream)):
        if isinstance(each, segment.Damaged):
            found.damaged.append((each.start, each.end))
        elif isinstance(each, segment.Torn):
            found.torn_bytes = len(data) - each.start
        elif each.what is segment.What.WITHDRAWN:
            found.withdrawn.add(each.item.number)
        else:
            found.records.append((each.item, each.content_at))
    return found
