"""Who else holds a stream's records: what is alone, what was secured, what was lost with a holder. Pure."""

import heapq
from collections.abc import Callable, Iterator

from syncd.spool.journal import Kept
from syncd.spool.ranges import Positions
from syncd.spool.record import Kind


def within(records: dict[int, Kept], positions: Positions) -> list[Kept]:
    """The records at these positions, however long the ranges are that somebody tells us."""
    if positions.count < len(records):
        return [records[position] for position in positions if position in records]
    return [kept for position, kept in records.items() if position in positions]


class Copies:
    """The holders of each record of one stream; `records` is the journal's own, by position."""

    def __init__(self, records: dict[int, Kept]) -> None:
        self._records = records
        self._sets: dict[frozenset[str], frozenset[str]] = {}
        self.alone_bytes = 0
        """Bytes of mail that no other host is known to hold. Events do not count: no second copy is made of them."""
        for kept in records.values():
            self.added(kept)

    def added(self, kept: Kept) -> None:
        """A new record, alone."""
        kept.is_counted = True
        self.alone_bytes += _weight(kept)

    def removed(self, kept: Kept) -> bool:
        """A record is released, withdrawn, or was not written; False when that was known."""
        if kept.is_counted and not kept.holders:
            self.alone_bytes -= _weight(kept)
        was_counted, kept.is_counted = kept.is_counted, False
        return was_counted

    def held(self, holder: str, positions: Positions) -> list[Kept]:
        """A holder has these; returns those of which it is the first."""
        first = []
        for kept in within(self._records, positions):
            if not kept.holders:
                self.alone_bytes -= _weight(kept)
                first.append(kept)
            kept.holders = self._one(kept.holders | {holder})
        return first

    def lost(self, holder: str, but: Positions | None = None) -> list[Kept]:
        """A holder has nothing any more, or nothing but these; returns the mail that is alone now, oldest first."""
        alone = []
        for position, kept in self._records.items():
            if holder not in kept.holders or (but is not None and position in but):
                continue
            kept.holders = self._one(kept.holders - {holder})
            if not kept.holders:
                self.alone_bytes += _weight(kept)
                if kept.item.kind is not Kind.EVENT:
                    alone.append(kept)
        return alone

    def alone(self) -> Iterator[Kept]:
        """Mail that nobody else is known to hold, oldest first."""
        return (kept for kept in self._records.values() if not kept.holders and kept.item.kind is not Kind.EVENT)

    def _one(self, holders: frozenset[str]) -> frozenset[str]:
        """The same object for the same holders: there are few sets and many records."""
        return self._sets.setdefault(holders, holders)


class Waiting:
    """Records that are to be given to another peer, each when its time has come."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, int]] = []
        self._valid: dict[int, tuple[float, int, int]] = {}

    def put(self, position: int, in_s: float, tries: int = 0) -> None:
        """Look at this record again after so many seconds; it was given to `tries` peers so far."""
        entry = (self._clock() + in_s, position, tries)
        self._valid[position] = entry
        heapq.heappush(self._heap, entry)

    def drop(self, position: int) -> None:
        """It is held, or gone."""
        self._valid.pop(position, None)

    def due(self, most: int) -> list[tuple[int, int]]:
        """(position, tries) of those whose time has come, at most so many; they wait no longer."""
        now, found = self._clock(), list[tuple[int, int]]()
        while len(found) < most and self._first_at() <= now:
            _, position, tries = heapq.heappop(self._heap)
            del self._valid[position]
            found.append((position, tries))
        return found

    def next_in_s(self) -> float:
        """Seconds until the next is due; infinite when none waits."""
        return max(0.0, self._first_at() - self._clock())

    def _first_at(self) -> float:
        while self._heap and self._valid.get(self._heap[0][1]) is not self._heap[0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")


def _weight(kept: Kept) -> int:
    return 0 if kept.item.kind is Kind.EVENT else kept.item.content_bytes
