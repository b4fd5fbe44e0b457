"""Puts records together from their frames, and checks that each is what its item says. Pure."""

import zlib

from syncd.spool.frames import BadFrame
from syncd.spool.messages import Item

MAX_OPEN = 8
"""The most records of one connection that are under way at once; a bound on what a peer can make us hold."""


class Assembly:
    """The records of one connection that are under way."""

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self._max_open = max_open
        self._parts: dict[int, tuple[Item, list[bytes], int]] = {}

    def begin(self, item: Item, part: bytes) -> tuple[Item, bytes] | None:
        """Take a RECORD or SUBMIT frame; the record when it is whole. Raises BadFrame."""
        if item.number in self._parts:
            raise BadFrame(f"record {item.number} begins again")
        if len(self._parts) >= self._max_open:
            raise BadFrame(f"more than {self._max_open} records under way")
        return self._take(item, [], 0, part)

    def go_on(self, number: int, part: bytes) -> tuple[Item, bytes] | None:
        """Take a BODY frame; the record when it is whole. Raises BadFrame."""
        if number not in self._parts or not part:
            raise BadFrame(f"a part of record {number}, which is not under way")
        return self._take(*self._parts.pop(number), part)

    def drop(self, number: int) -> bool:
        """Forget a record; whether it was under way."""
        return self._parts.pop(number, None) is not None

    def _take(self, item: Item, parts: list[bytes], taken: int, part: bytes) -> tuple[Item, bytes] | None:
        taken += len(part)
        parts.append(part)
        if taken > item.content_bytes:
            raise BadFrame(f"record {item.number} is longer than it says")
        if taken < item.content_bytes:
            self._parts[item.number] = (item, parts, taken)
            return None
        content = parts[0] if len(parts) == 1 else b"".join(parts)
        if zlib.crc32(content) != item.crc:
            raise BadFrame(f"record {item.number} is damaged: its CRC is another")
        return item, content
