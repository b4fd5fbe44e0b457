"""A publisher and two nodes under steady changes, watched all the time for what must never be.

Never: a node's revision goes back; a change is called applied that a member has not; a domain that was applied once and
never deleted is missing while the node may say that it does not exist. At the end nothing that was committed
is missing.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control.receipts import Receipts
from control.receipts_feed import follow as feed
from syncd import config, keys
from syncd.layers import Member, canonical
from syncd.published import Point, sealed
from tests.syncd.running import Database, Follow, Program, domain, follow, publisher, until

CHANGES_A_SECOND = 20
HEALED_S = 60.0
HOME = domain("home.test")
NODES = ("mx1", "mx2")


@dataclass(frozen=True)
class Committed:
    """A change, as `control.store.layers.Written` has it."""

    generation: int
    revision: int
    key: str
    stamp: int
    members: tuple[str, ...] = NODES


@dataclass
class Load:
    """What runs, and what was seen."""

    store: Database
    publisher: Program
    nodes: list[Follow]
    receipts: Receipts = field(default_factory=Receipts)
    committed: list[Committed] = field(default_factory=list)
    applied: int = 0
    points: dict[str, Point] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(4))

    async def change(self, key: str, value: bytes | None) -> Committed:
        """Commit one change."""
        revision = await self.store.commit((key, value))
        row = await self.store.pool.fetchrow(
            "select (extract(epoch from committed_at) * 1000000)::bigint as stamp,"
            " (select generation from revision_counter) as generation from outbox where revision = $1",
            revision,
        )
        made = Committed(row["generation"], revision, key, row["stamp"])
        self.committed.append(made)
        return made

    async def keep_changing(self) -> None:
        """Change, delete and make domains, without end."""
        while True:
            number = self.chance.randrange(40)
            name, days = f"d{number}.test", self.chance.randrange(1, 300)
            value = None if self.chance.random() < 0.15 else domain(name, {"retention": {"days": days}})[1]
            await self.change(keys.domain(name), value)
            await asyncio.sleep(1 / CHANGES_A_SECOND)

    async def watch(self) -> None:
        """Look for what must never be, without end."""
        while True:
            for node in self.nodes:
                self._look(node)
            for made in [made for made in self.committed if self.receipts.applied(made)]:
                self._check_applied(made)
                self.committed.remove(made)
                self.applied += 1
            await asyncio.sleep(0.01)

    def _look(self, node: Follow) -> None:
        status, name = node.status(), node.directory.name
        if status.complete:
            before = self.points.get(name, (0, 0))
            assert status.point >= before, f"{name} went back from {before} to {status.point}"
            self.points[name] = status.point
            assert not status.can_deny or node.value(HOME[0]), f"{name} would refuse mail to a domain that exists"

    def _check_applied(self, made: Committed) -> None:
        for node in self.nodes:
            assert node.status().point >= (made.generation, made.revision), f"{node.directory.name} has not {made}"

    async def healed(self) -> None:
        """Everybody gets everything, within the time that the design grants."""
        last = await self.change(*domain("last.test"))
        point = (last.generation, last.revision)
        within_s = HEALED_S
        for node in self.nodes:
            await until(lambda: node.status().agrees and node.status().point >= point, within_s, f"{node.status()}")  # noqa: B023
        await until(lambda: self.receipts.applied(last), within_s, "applied")
        rows = await self.store.pool.fetch(
            "select distinct on (key) key, value from outbox order by key, revision desc, position desc"
        )
        for row in rows:
            wanted = None if row["value"] is None else sealed(row["value"])
            for node in self.nodes:
                assert node.value(row["key"]) == wanted, f"{node.directory.name} has not the last {row['key']}"


@asynccontextmanager
async def load(
    store: Database,
    database: str,
    here: Path,
    run: Callable[[Any], Any],
    place: config.Etcd,
    near: config.Etcd | None = None,
) -> AsyncIterator[Load]:
    """Start everything and change without end until the block ends; then it has to heal. `near`: where the first node
    finds etcd, if it goes another way. Raises what was seen that must never be."""
    made = Load(store, run(publisher(here, place, database)), [])
    for name in NODES:
        made.nodes.append(run(follow(here, near if near and name == "mx1" else place, name)))
        member = Member(name, "127.0.0.1", 1, "127.0.0.1", 1)
        await made.change(keys.member(name), canonical(member))
    first = await made.change(*HOME)
    for node in made.nodes:
        await node.reaches(first.revision)
    async with asyncio.TaskGroup() as tasks:
        beside = [tasks.create_task(each) for each in (made.watch(), feed(place, made.receipts))]
        changing = tasks.create_task(made.keep_changing())
        yield made
        changing.cancel()
        await made.healed()
        assert made.applied, "nothing was called applied, so nothing was seen"
        for task in beside:
            task.cancel()
