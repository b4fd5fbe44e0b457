"""The fleet in one process: publishers, followers and a panel over simulated services, and what may befall them."""

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec

from syncd import config, keys
from syncd.follow import Follower
from syncd.kv import EtcdAway, EtcdError
from syncd.layers import DomainLayer, Member, NextHop, Shards, canonical, digest
from syncd.outbox import DatabaseAway
from syncd.publish import Publisher
from syncd.published import Unreadable, sealed
from syncd.receipts import receipt
from tests.syncd.model import etcd as etcds
from tests.syncd.model import postgres as postgreses
from tests.syncd.model.etcd import Client, SimulatedEtcd
from tests.syncd.model.invariants import Node, Target, check_healed, check_node
from tests.syncd.model.panel import Panel
from tests.syncd.model.postgres import Rows, SimulatedPostgres
from tests.syncd.model.steps import Actor, Ask
from tests.syncd.model.store import Store

DOMAINS = [keys.domain(f"d{number}.test") for number in range(8)]
NODES = ("mx1", "mx2", "mx3")
HOPS = (NextHop("127.0.0.1"),)
UNREADABLE = b'"from_a_newer_version"'
HEAL_ROUNDS = 4_000
NOWHERE = config.Etcd(())


class Waits(Publisher):
    """The publisher, whose two ways of waiting are questions to the model."""

    def __init__(self) -> None:
        super().__init__("", NOWHERE, "")

    async def _news(self, rows: Any) -> bool:
        await Ask("time", lambda: None)
        return False

    async def _pause(self, seconds: float) -> None:
        await Ask("time", lambda: None)


class NoWarmer:
    """Nobody reads here, so nothing is warmed."""

    def want(self, changed: Any) -> None:
        """Not wanted."""


def decode(key: str, canonical_bytes: bytes) -> None:
    """Stands for a node's declarations, which are a version behind."""
    if UNREADABLE in canonical_bytes:
        raise Unreadable("a newer version wrote it")


@dataclass
class Process:
    """A publisher's or follower's process; `actor` None while it has no connection."""

    program: Any
    actor: Actor | None = None


class World:
    """What there is, and one method for each thing that can happen."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.etcd, self.postgres = SimulatedEtcd(self.chance), SimulatedPostgres()
        self.now = 1_000.0
        self.publishers = [Process(Waits()) for _ in range(2)]
        self.looks: list[Actor | None] = [None, None]
        self.nodes = {name: Node(name, Store()) for name in NODES}
        self.followers = {name: Process(self._follower(name)) for name in NODES}
        self.members: set[str] = set()
        self.counts: Counter[str] = Counter()
        self._snapshots: list[etcds.Data] = []
        self._backups: list[postgreses.Data] = []
        self._is_restored = False
        self.panel = Panel(self.etcd, self.nodes, self.counts, [])
        for name in NODES[:2]:
            self.join(name)

    # What goes on

    def commit(self) -> None:
        """Somebody changes something."""
        for _ in range(self.chance.choice((1, 1, 1, 3))):
            self._commit(self.chance.choice(DOMAINS), self._value())

    def publish(self) -> None:
        """A publisher goes on by one question."""
        process = self.chance.choice(self.publishers)
        if process.actor is None:
            process.actor = Actor(process.program.publish(Client(self.etcd), self._rows()))
        self._go_on(process)

    def suspect(self) -> None:
        """A publisher's compare goes on by one question."""
        at = self.chance.randrange(len(self.looks))
        actor = self.looks[at] or Actor(self.publishers[at].program.suspect(Client(self.etcd), self._rows()))
        self.looks[at] = actor
        try:
            actor.answer()
        except (StopIteration, EtcdError, DatabaseAway):
            self.looks[at] = None

    def follow(self) -> None:
        """A follower goes on by one question."""
        self._follow(self.chance.choice(NODES))

    def report(self) -> None:
        """A node's newest receipt reaches etcd."""
        name = self.chance.choice(NODES)
        told = receipt(name, self.nodes[name].store.status, at=self.now)
        if not self.etcd.is_full:
            self.etcd.write([], [(keys.receipt(name), msgspec.json.encode(told))])

    def silence(self) -> None:
        """A node's lease ends."""
        self.etcd.write([], [(keys.receipt(self.chance.choice(NODES)), None)])

    def hear(self) -> None:
        """The panel hears what etcd tells, in its order."""
        self.panel.hear()

    # What befalls

    def lose_answer(self) -> None:
        """A connection breaks before or after the service did what it was asked."""
        processes = [each for each in (*self.publishers, *self.followers.values()) if each.actor]
        if processes:
            process = self.chance.choice(processes)
            self._break(process, lambda actor: actor.lose(EtcdAway("cut"), after=self.chance.random() < 0.5))

    def crash_publisher(self) -> None:
        """kill -9."""
        at = self.chance.randrange(len(self.publishers))
        if actor := self.publishers[at].actor:
            actor.crash()
        self.publishers[at] = Process(Waits())

    def crash_follower(self) -> None:
        """kill -9; its store is as of the last transaction."""
        self._boot(self.chance.choice(NODES))

    def lose_disk(self) -> None:
        """A node begins anew."""
        name = self.chance.choice(NODES)
        self.nodes[name] = Node(name, Store(), stamp=self.nodes[name].stamp)
        self._boot(name)

    def restart_etcd(self) -> None:
        """Every connection to it breaks."""
        self.etcd.connection += 1

    def compact(self) -> None:
        """etcd forgets old revisions."""
        self.etcd.compact(self.etcd.data.revision - self.chance.choice((0, 0, 5, 50)))

    def snapshot(self) -> None:
        """Somebody saves both, at different moments."""
        if self.chance.random() < 0.5:
            self._snapshots = [*self._snapshots[-2:], self.etcd.snapshot()]
        else:
            self._backups = [*self._backups[-2:], self.postgres.backup()]

    def restore_etcd(self) -> None:
        """etcd comes back as it once was, or empty."""
        data = self.chance.choice([*self._snapshots, etcds.Data()])
        self.etcd.restore(data, new_cluster=self.chance.random() < 0.5)

    def restore_postgres(self) -> None:
        """PostgreSQL comes back as it once was; people go on changing things before anybody tells the system."""
        if self._backups:
            self.postgres.restore(self.chance.choice(self._backups))
            self._is_restored = True

    def raise_generation(self) -> None:
        """`mxctl restore`: above whatever anybody has."""
        told = [node.store.status.generation for node in self.nodes.values()]
        published = self.panel.receipts.published or (0, 0)
        self._is_restored = False
        self.postgres.raise_generation(max(*told, published[0], self._meta_generation()))

    def meddle(self) -> None:
        """Somebody writes into etcd by hand."""
        key = self.chance.choice([*DOMAINS, keys.META])
        value = None if self.chance.random() < 0.5 else b"meddled" if self.chance.random() < 0.5 else sealed(b"{}")
        if not self.etcd.is_full:
            self.etcd.write([], [(key, value)])

    def fill(self) -> None:
        """etcd's quota is used up, or freed."""
        self.etcd.is_full = not self.etcd.is_full

    def join(self, name: str = "") -> None:
        """A node joins, or leaves."""
        name = name or self.chance.choice(NODES)
        member = canonical(Member(name, "127.0.0.1", 1, "127.0.0.1", 1))
        self.members ^= {name}
        self._commit(keys.member(name), member if name in self.members else None)

    def restart_panel(self) -> None:
        """It knows nothing any more."""
        self.panel = Panel(self.etcd, self.nodes, self.counts, self.panel.targets)

    # Healing

    def heal(self) -> None:
        """Everything works again and nothing else happens: everybody has to come to the same end."""
        self.etcd.is_full = False
        if self._is_restored:
            self.raise_generation()
        last = self._commit(DOMAINS[0], self._value(readable=True))
        for round_ in range(HEAL_ROUNDS):
            self.now += 1.0
            for act in (self.publish, self.publish, self.suspect, self.follow, self.follow, self.follow, self.report):
                act()
            self.hear()
            if round_ % 50 == 49 and self._is_healed(last):
                break
        check_healed(self.nodes, self.postgres, self.panel.receipts, last, self.members)
        self.counts["healed"] += 1

    def _is_healed(self, last: Target) -> bool:
        point = (self.postgres.data.generation, self.postgres.data.revision)
        return all(
            node.store.status.point == point and node.store.status.state == "live" for node in self.nodes.values()
        ) and (self.panel.receipts.applied(last) or not last.members)

    def end(self) -> None:
        """Kill everything."""
        for actor in (*(each.actor for each in (*self.publishers, *self.followers.values())), *self.looks):
            if actor:
                actor.crash()

    # Ways

    def _commit(self, key: str, value: bytes | None) -> Target:
        if value and b'"recipients"' in value:
            self.postgres.data.shards[digest(self._body)] = self._body
        row = self.postgres.commit((key, value))
        data = self.postgres.data
        target = Target(data.generation, row.revision, key, tuple(sorted(self.members)), row.stamp, value)
        self.panel.committed(target)
        return target

    def _value(self, *, readable: bool = False) -> bytes | None:
        kind = self.chance.random()
        if kind < 0.2 and not readable:
            return None
        settings = {"retention": {"days": self.chance.randrange(1_000)}}
        if kind < 0.25 and not readable:
            settings["from_a_newer_version"] = {"x": self.chance.randrange(9)}
        self._body = f"\nuser{self.chance.randrange(6)}\t{{}}\n".encode()
        recipients = Shards((digest(self._body),), 1) if kind > 0.7 else None
        return canonical(DomainLayer("d.test", "acc", HOPS, settings, recipients=recipients))

    def _rows(self) -> Rows:
        return Rows(self.postgres, DatabaseAway)

    def _follower(self, name: str) -> Follower:
        store: Any = self.nodes[name].store
        return Follower(name, NOWHERE, store, decode, NoWarmer(), clock=lambda: self.now)  # type: ignore[arg-type]

    def _boot(self, name: str) -> None:
        if actor := self.followers[name].actor:
            actor.crash()
        self.followers[name] = Process(self._follower(name))

    def _follow(self, name: str) -> None:
        process, node = self.followers[name], self.nodes[name]
        if process.actor is None:
            process.actor = Actor(process.program.follow(Client(self.etcd)))
        self._go_on(process)
        check_node(node, self.postgres)

    def _go_on(self, process: Process) -> None:
        self._break(process, lambda actor: actor.answer())

    def _break(self, process: Process, act: Any) -> None:
        """Let an actor go on; when its connection has ended, its process does what its `run` does."""
        assert process.actor
        try:
            act(process.actor)
        except (EtcdError, DatabaseAway) as error:
            self.counts[type(error).__name__] += 1
            process.actor = None
            if isinstance(process.program, Follower):
                process.program.lost()

    def _meta_generation(self) -> int:
        item = self.etcd.item(keys.META)
        try:
            return int(msgspec.json.decode(item.value or b"")["generation"]) if item else 0
        except (msgspec.DecodeError, TypeError, KeyError):
            return 0
