"""A journal's directory that tests open again and again, and records whose content names them."""

import asyncio
from pathlib import Path

from syncd.spool.journal import Journal
from syncd.spool.messages import Item, item
from syncd.spool.record import Kind
from syncd.spool.room import Room
from syncd.spool.stream import Stream

STREAM = Stream("mx1", "ab" * 16)


def entry(position: int, size: int = 100, mark: str = "") -> tuple[Item, bytes]:
    """A record whose content names it."""
    header, body = b"{}", (f"{position}{mark} ".encode() * size)[:size]
    return item(position, Kind.KEPT, f"01ID{position}{mark}", header, body, 1000.0 + position), header + body


class Place:
    """A journal's directory, opened again and again."""

    def __init__(self, root: Path) -> None:
        self.directory, self.aside = root / STREAM.node / STREAM.epoch, root / "aside"
        self.room = Room(root, min_free_bytes=0)

    def open(self) -> Journal:
        """The journal with what is there."""
        self.room = Room(self.directory.parent, min_free_bytes=0)
        return Journal.load(self.directory, STREAM, self.room, self.aside)

    def segments(self) -> list[Path]:
        """Its files."""
        return sorted(self.directory.glob("*.seg"))


async def filled(place: Place, count: int = 10, size: int = 100) -> Journal:
    """A journal with records 1 to `count`."""
    journal = place.open()
    await asyncio.gather(*(journal.append(*entry(position, size)) for position in range(1, count + 1)))
    return journal


async def sound(journal: Journal) -> list[int]:
    """Positions of all records; each can be read and is what it was."""
    for position, kept in journal.records.items():
        assert await journal.read(kept) == entry(position, kept.item.body_bytes)[1]
    return sorted(journal.records)
