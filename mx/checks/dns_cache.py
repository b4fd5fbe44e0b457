"""Answers of DNS remembered for their time to live, in bounded memory. No I/O; the time is passed in."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 8 * 1024 * 1024
"""Of one worker's cache, by estimate; the least recently used answers go first."""
ENTRY_BYTES = 400
"""What an entry costs besides its values: key, bookkeeping, objects."""
MIN_TTL_S = 1
"""A record with TTL 0 still serves the looks of one session."""
MAX_TTL_S = 3600
MAX_NEGATIVE_TTL_S = 300
"""RFC 2308 section 5 would allow hours; a mail administrator who adds a missing record waits for it."""

Key = tuple[str, str]
"""Record type and name in lower case."""
Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Values of a name and type, () for one that does not exist, and how long that is true in seconds."""

    values: Values
    ttl_s: float


class Cache:
    """Least recently used answers leave first, outdated ones when they are met."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, tuple[Values, float, int]] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Values | None:
        """The values if they are known and still true."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= now:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Key, answer: Answer, now: float) -> None:
        """Remember an answer for its time to live, within the bounds of this file."""
        longest = MAX_TTL_S if answer.values else MAX_NEGATIVE_TTL_S
        ttl_s = min(max(answer.ttl_s, MIN_TTL_S), longest)
        size = ENTRY_BYTES + len(key[1]) + sum(_size(value) for value in answer.values)
        self._drop(key)
        self._entries[key] = (answer.values, now + ttl_s, size)
        self.size_bytes += size
        while self.size_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry:
            self.size_bytes -= entry[2]


def _size(value: Any) -> int:
    return 60 + (len(value) if isinstance(value, (str, bytes)) else len(value[1]))
