"""etcd, simulated: keys with their history, guarded transactions, watches, compaction, snapshots."""

import copy
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

from syncd.kv import PAGE, Changes, Compacted, EtcdAway, EtcdRefused, Guard, Item, Page, Write
from tests.syncd.model.steps import Ask


@dataclass
class Data:
    """What a snapshot holds. `events` are (revision, key, value), in order."""

    revision: int = 1
    compacted: int = 0
    cluster: int = 1
    keys: dict[str, list[tuple[int, bytes | None]]] = field(default_factory=dict)
    events: list[tuple[int, str, bytes | None]] = field(default_factory=list)


class SimulatedEtcd:
    """The server. `connection` changes when it is restarted: older connections get no more answers."""

    is_guarded = True
    """Off, to show that the model would find it."""

    def __init__(self, chance: random.Random) -> None:
        self.data, self.chance = Data(), chance
        self.connection = 0
        self.is_full = False

    def snapshot(self) -> Data:
        """A copy of everything."""
        return copy.deepcopy(self.data)

    def restore(self, data: Data, *, new_cluster: bool) -> None:
        """Become what was copied."""
        cluster = self.data.cluster + 1 if new_cluster else self.data.cluster
        self.data = copy.deepcopy(data)
        self.data.cluster = cluster
        self.connection += 1

    def item(self, key: str, revision: int = 0) -> Item | None:
        """A key as it is, or was."""
        at = revision or self.data.revision
        for changed, value in reversed(self.data.keys.get(key, [])):
            if changed <= at:
                return None if value is None else Item(key, value, changed)
        return None

    def range(self, first: str, end: str, revision: int, limit: int) -> Page:
        """Keys of a range, at a revision."""
        if revision and revision < self.data.compacted:
            raise Compacted("compacted")
        names = sorted(key for key in self.data.keys if first <= key < end)
        found = [item for name in names if (item := self.item(name, revision))]
        return Page(tuple(found[:limit]), self.data.revision, self.data.cluster)

    def write(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int | None:
        """A guarded transaction."""
        if self.is_full and any(value is not None for _, value in writes):
            raise EtcdRefused("etcdserver: mvcc: database space exceeded")
        for guard in guards if self.is_guarded else ():
            item = self.item(guard.key)
            if (item.revision if item else 0) != guard.revision:
                return None
        changes = [(key, value) for key, value in writes if value is not None or self.item(key)]
        if changes:
            self.data.revision += 1
        for key, value in changes:
            self.data.keys.setdefault(key, []).append((self.data.revision, value))
            self.data.events.append((self.data.revision, key, value))
        return self.data.revision

    def poll(self, first: str, end: str, since: int) -> Changes:
        """What a watch brings next: some whole revisions, or a sign of life that may overtake them (issue 15220)."""
        if since <= self.data.compacted:
            raise Compacted("compacted")
        waiting = [Item(key, value, at) for at, key, value in self.data.events if at >= since and first <= key < end]
        revisions = sorted({item.revision for item in waiting})
        count = self.chance.randint(0, min(len(revisions), 3))
        upto = revisions[count - 1] if count else 0
        return Changes(tuple(item for item in waiting if item.revision <= upto), self.data.revision)

    def compact(self, revision: int) -> None:
        """Forget what was before."""
        self.data.compacted = max(self.data.compacted, revision)
        self.data.events = [event for event in self.data.events if event[0] > revision]


class Client:
    """One connection, with the interface of `syncd.etcd.Etcd`."""

    endpoint = "simulated"

    def __init__(self, server: SimulatedEtcd) -> None:
        self._server, self._connection = server, server.connection

    def _live(self) -> SimulatedEtcd:
        if self._connection != self._server.connection:
            raise EtcdAway("the connection is gone")
        return self._server

    async def get(self, key: str, *, revision: int = 0) -> Page:
        """As the client."""
        page: Page = await Ask("etcd", lambda: self._live().range(key, key + "\0", revision, 1))
        return page

    async def pages(
        self, first: str, end: str, *, revision: int = 0, page: int = PAGE, keys_only: bool = False
    ) -> AsyncIterator[Page]:
        """As the client, in pages so small that they are several."""
        while True:
            asked, at = first, revision
            found: Page = await Ask("etcd", lambda: self._live().range(asked, end, at, 4))  # noqa: B023
            revision = revision or found.revision
            yield Page(found.items, revision, found.cluster)
            if len(found.items) < 4:
                return
            first = found.items[-1].key + "\0"

    async def read(self, keys: Iterable[str], *, keys_only: bool = False) -> Page:
        """As the client."""
        wanted = list(keys)
        page: Page = await Ask("etcd", lambda: self._read(wanted))
        return page

    def _read(self, keys: list[str]) -> Page:
        server = self._live()
        return Page(
            tuple(item for key in keys if (item := server.item(key))), server.data.revision, server.data.cluster
        )

    async def write(self, guards: Sequence[Guard], writes: Sequence[Write], *, lease: int = 0) -> int | None:
        """As the client."""
        revision: int | None = await Ask("etcd", lambda: self._live().write(guards, writes))
        return revision

    async def watch(self, first: str, end: str, *, since: int) -> AsyncGenerator[Changes, None]:
        """As the client."""
        while True:
            at = since
            changes: Changes = await Ask("etcd", lambda: self._live().poll(first, end, at))  # noqa: B023
            if changes.items:
                since = changes.items[-1].revision + 1
            yield changes
