"""Sets of positions, kept as closed ranges: what an acknowledgement, a resume and a release speak of. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from syncd.spool.stream import Ranges


class Positions:
    """A set of positions from 1. Nearly dense sets of any length cost a few numbers."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Put in the positions from `first` to `last`, both included; only `first` without it."""
        last = first if last is None else last
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def update(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Put in every range."""
        for first, last in ranges:
            self.add(first, last)

    def discard(self, position: int) -> None:
        """Take one position out."""
        at = bisect_left(self._lasts, position)
        if at == len(self._lasts) or self._firsts[at] > position:
            return
        first, last = self._firsts[at], self._lasts[at]
        rest = [pair for pair in ((first, position - 1), (position + 1, last)) if pair[0] <= pair[1]]
        self._firsts[at : at + 1] = [pair[0] for pair in rest]
        self._lasts[at : at + 1] = [pair[1] for pair in rest]

    def ranges(self) -> Ranges:
        """Sorted, disjoint, not touching."""
        return tuple(zip(self._firsts, self._lasts, strict=True))

    def common(self, other: "Positions") -> Ranges:
        """The ranges that are in both."""
        found, mine, theirs = list[tuple[int, int]](), self.ranges(), other.ranges()
        i = j = 0
        while i < len(mine) and j < len(theirs):
            first, last = max(mine[i][0], theirs[j][0]), min(mine[i][1], theirs[j][1])
            if first <= last:
                found.append((first, last))
            if mine[i][1] < theirs[j][1]:
                i += 1
            else:
                j += 1
        return tuple(found)

    def __contains__(self, position: int) -> bool:
        at = bisect_left(self._lasts, position)
        return at < len(self._lasts) and self._firsts[at] <= position

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges():
            yield from range(first, last + 1)

    @property
    def count(self) -> int:
        """How many they are; perhaps more than `len` can say, for a peer may name any range."""
        return sum(last - first + 1 for first, last in self.ranges())

    def __bool__(self) -> bool:
        return bool(self._firsts)
