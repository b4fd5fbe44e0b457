"""PostgreSQL, simulated: the outbox under the revision counter's lock, shards, backups."""

import copy
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from syncd.outbox import Row
from syncd.published import Point, sealed
from tests.syncd.model.steps import Ask

REMEMBERED = 3_000
"""Points whose content is remembered."""
COMMITTED_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Data:
    """What a backup holds."""

    generation: int = 1
    revision: int = 0
    rows: list[Row] = field(default_factory=list)
    shards: dict[str, bytes] = field(default_factory=dict)


class SimulatedPostgres:
    """The server. Its clock goes on whatever is restored."""

    def __init__(self) -> None:
        self.data = Data()
        self.connection = 0
        self.truth: dict[Point, list[tuple[int, dict[str, bytes]]]] = {}
        """(stamp, everything as it stands in etcd) at each point; several after a restore that nobody declared."""
        self.ever: set[tuple[str, bytes]] = set()
        """Every value that was ever committed."""
        self._clock_us = 1_000

    def backup(self) -> Data:
        """A copy of everything."""
        return copy.deepcopy(self.data)

    def restore(self, data: Data) -> None:
        """Become what was copied."""
        self.data = copy.deepcopy(data)
        self.connection += 1

    def commit(self, *changes: tuple[str, bytes | None]) -> Row:
        """One transaction, each change a revision of its own; returns the last row."""
        for key, value in changes:
            self.data.revision += 1
            self._add(key, value, self.data.revision)
            self._record()
        return self.data.rows[-1]

    def raise_generation(self, above: int) -> None:
        """As `mxctl restore` does."""
        self.data.generation = max(self.data.generation, above) + 1
        self._record()

    def _record(self) -> None:
        content = {key: sealed(value) for key, value in self.content().items()}
        self.ever |= set(content.items())
        stamp = self.data.rows[-1].stamp if self.data.rows else 0
        self.truth.setdefault((self.data.generation, self.data.revision), []).append((stamp, content))
        while len(self.truth) > REMEMBERED:
            del self.truth[next(iter(self.truth))]

    def _add(self, key: str, value: bytes | None, revision: int) -> None:
        self._clock_us += 7
        self.data.rows.append(Row(revision, key, value, COMMITTED_AT, stamp=self._clock_us))

    def content(self) -> dict[str, bytes]:
        """Every key that exists now, with its value."""
        return self.last(None, self.data.revision)

    def last(self, wanted: Sequence[str] | None, upto: int) -> dict[str, bytes]:
        """The values at a revision, of all keys or of these."""
        found: dict[str, bytes | None] = {
            row.key: row.value
            for row in self.data.rows
            if row.revision <= upto and (wanted is None or row.key in wanted)
        }
        return {key: value for key, value in found.items() if value is not None}

    def renew(self, names: Sequence[str]) -> int:
        """As the outbox."""
        values = self.content()
        self.data.revision += 1
        for name in names:
            self._add(name, values.get(name), self.data.revision)
        self._record()
        return self.data.revision

    def trim(self, upto: int) -> None:
        """As the outbox."""
        newest = {row.key: row.revision for row in self.data.rows if row.revision <= upto}
        self.data.rows = [
            row for row in self.data.rows if row.revision >= newest.get(row.key, 0) or row.revision > upto
        ]


class Rows:
    """One connection, with the interface of `syncd.outbox.Outbox`."""

    def __init__(self, server: SimulatedPostgres, gone: type[Exception]) -> None:
        self._server, self._connection, self._gone = server, server.connection, gone
        self.news = _News()

    def _live(self) -> Data:
        if self._connection != self._server.connection:
            raise self._gone("the connection is gone")
        return self._server.data

    def _ask(self, act: Any) -> Ask:
        return Ask("postgres", lambda: act(self._live()))

    async def counter(self) -> Point:
        """As the outbox."""
        point: Point = await self._ask(lambda data: (data.generation, data.revision))
        return point

    async def stamp(self, revision: int) -> int:
        """As the outbox."""
        stamp: int = await self._ask(
            lambda data: next((row.stamp for row in reversed(data.rows) if row.revision == revision), 0)
        )
        return stamp

    async def changes(self, after: int, most: int) -> Sequence[Row]:
        """As the outbox, a few revisions at a time."""
        rows: Sequence[Row] = await self._ask(lambda data: self._changes(data, after))
        return rows

    def _changes(self, data: Data, after: int) -> Sequence[Row]:
        waiting = [row for row in data.rows if row.revision > after]
        base = max((row.stamp for row in data.rows if row.revision == after), default=0)
        upto = sorted({row.revision for row in waiting})[:4]
        return [replace(row, generation=data.generation, base=base) for row in waiting if row.revision in upto]

    async def is_gapless(self, after: int, upto: int) -> bool:
        """As the outbox."""
        found: bool = await self._ask(
            lambda data: len({row.revision for row in data.rows if after < row.revision <= upto}) == upto - after
        )
        return found

    async def lag(self, after: int) -> int:
        """As the outbox."""
        count: int = await self._ask(lambda data: sum(row.revision > after for row in data.rows))
        return count

    async def truth(self, upto: int) -> AsyncIterator[tuple[str, bytes]]:
        """As the outbox: one transaction, so of one moment."""
        found: dict[str, bytes] = await self._ask(lambda data: self._server.last(None, upto))
        for key, value in found.items():
            yield key, value

    async def values(self, keys: Sequence[str], upto: int) -> dict[str, bytes]:
        """As the outbox."""
        found: dict[str, bytes] = await self._ask(lambda data: self._server.last(list(keys), upto))
        return found

    async def shards(self, names: Sequence[str]) -> dict[str, bytes]:
        """As the outbox."""
        found: dict[str, bytes] = await self._ask(
            lambda data: {name: data.shards[name] for name in names if name in data.shards}
        )
        return found

    async def renew(self, keys: Sequence[str]) -> int:
        """As the outbox."""
        revision: int = await self._ask(lambda data: self._server.renew(keys))
        return revision

    async def trim(self, upto: int) -> None:
        """As the outbox."""
        await self._ask(lambda data: self._server.trim(upto))


class _News:
    """Notifications are not simulated: the model's publisher looks whenever it is let go on."""

    def clear(self) -> None:
        """Nothing to clear."""
