"""One run of the simulation: hosts, processes, what is sent, what breaks, and the promises that have to hold.

Three nodes, each with a spool process and a worker, and the quarantine's host with a receiver; all of it the real code.
A step is one callback of one process's event loop. Everything random comes from the seed.
"""

import asyncio
import heapq
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncd import config
from syncd.spool.client import NotSecured, SpoolClient
from syncd.spool.node import Spool
from syncd.spool.receive import Receiver
from syncd.spool.record import Kind, Outcome, RecipientResult, Record
from tests.syncd.spool.model.disk import Disk, PowerCut
from tests.syncd.spool.model.loop import SimLoop
from tests.syncd.spool.model.quarantine import SimStores, body_of

NODES = ("mx1", "mx2", "mx3")
QUARANTINE = "q"
PORT = 1
TAKEOVER_S = 2.0
TIMEOUT_S = 1.0
QUIET_WITHIN_S = 90.0
MAX_STEPS = 400_000


class Broken(AssertionError):
    """A promise did not hold."""


@dataclass(slots=True)
class Copy:
    """What a worker knows of one record."""

    node: str
    asked_at: float
    answer: str = ""
    """"secured", "not secured", or "" while there is none."""


class World:
    """Runs until everything that was secured is stored, or a promise is broken."""

    def __init__(self, seed: int, directory: Path, trouble: float = 1.0) -> None:
        self.rng = random.Random(seed)
        self.now, self.steps = 0.0, 0
        self.loops: dict[str, SimLoop] = {}
        self.dead: list[SimLoop] = []
        self.listeners: dict[Any, Any] = {}
        self.disk = Disk(directory, self.rng)
        self.stores = SimStores(self)
        self.copies: dict[str, Copy] = {}
        self.spools: dict[str, Spool] = {}
        self.receiver: Receiver | None = None
        self.lost_disks: list[tuple[float, str]] = []
        self.killed_at: dict[str, float] = {}
        self.counts = {"secured": 0, "not secured": 0, "kills": 0, "cuts": 0, "disks": 0, "partitions": 0, "repeats": 0}
        self._cut: set[tuple[str, str]] = set()
        self._off: set[str] = set()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        self._problem = ""
        self._is_sending = True
        for host in (*NODES, QUARANTINE):
            (directory / host).mkdir()

    # --- what the loops need

    def number(self) -> int:
        """Another one each time."""
        self._numbers += 1
        return self._numbers

    def pop(self, heap: list[Any]) -> Any:
        """The first of a heap."""
        return heapq.heappop(heap)

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do this then."""
        heapq.heappush(self._events, (when, self.number(), act))

    def after(self, in_s: float, act: Callable[[], None]) -> None:
        """Do this in so many seconds."""
        self.at(self.now + in_s, act)

    def delay(self, one: str, other: str) -> float:
        """Of bytes between hosts."""
        return 0.00005 if one == other else self.rng.expovariate(1000)

    def disk_delay(self, host: str) -> float:
        """Of one job of a thread; now and then a disk thinks for long."""
        return self.rng.expovariate(300) if self.rng.random() < 0.99 else self.rng.uniform(0.1, 1.5)

    def is_cut(self, one: str, other: str) -> bool:
        """Whether nothing passes from one host to another."""
        return (one, other) in self._cut

    def is_off(self, host: str) -> bool:
        """Whether a host has no power."""
        return host in self._off

    def failed(self, words: str) -> None:
        """A promise is broken, or a process ended by an error."""
        self._problem = self._problem or words

    # --- running

    def run(self) -> None:
        """Start everything, break things for a while, heal, and wait for quiet. Raises Broken."""
        for name in (*NODES, QUARANTINE):
            self.start(name)
        self._plan_trouble()
        self._run_until(lambda: False, self.now + self.rng.uniform(1.0, 5.0))
        self._is_sending = False
        self._heal()
        self._run_until(self._is_quiet, self.now + QUIET_WITHIN_S)
        self._judge()

    def _run_until(self, is_done: Callable[[], bool], until: float) -> None:
        look_at = self.now
        while self.now < until:
            if self.now >= look_at:
                look_at = self.now + 0.5
                if is_done():
                    return
            self._step(until)
            if self._problem:
                raise Broken(self._problem)
            if self.steps > MAX_STEPS:
                raise Broken("it never comes to rest")

    def _step(self, until: float) -> None:
        while self._events and self._events[0][0] <= self.now:
            heapq.heappop(self._events)[2]()
        ready = [loop for loop in self.loops.values() if loop.has_ready()]
        if ready:
            self.steps += 1
            self.rng.choice(ready).step()
            return
        next_at = min((loop.next_at() for loop in self.loops.values()), default=until)
        if self._events:
            next_at = min(next_at, self._events[0][0])
        self.now = max(self.now, min(next_at, until))

    # --- processes

    def start(self, host: str) -> None:
        """Start what runs on a host and does not."""
        self._off.discard(host)
        if host == QUARANTINE:
            self._start("receiver", host, self._receive)
        else:
            self._start(f"{host}.spool", host, lambda: self._spool(host))
            self._start(f"{host}.worker", host, lambda: self._work(host))

    def _start(self, name: str, host: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if name in self.loops or self.is_off(host):
            return
        loop = self.loops[name] = SimLoop(self, host)
        loop.call_soon(lambda: setattr(loop, "main", loop.create_task(main())))

    def kill(self, name: str, *, power: bool = False) -> None:
        """The process is no more; with `power` its system says so to nobody, and a job of its threads may be cut."""
        loop = self.loops.pop(name, None)
        if loop is None:
            return
        loop.is_dead = True
        self.dead.append(loop)
        self.killed_at[name] = self.now
        for at in [at for at, server in self.listeners.items() if server.loop is loop]:
            del self.listeners[at]
        for transport in list(loop.transports):
            if not power or transport.peer.loop.host == loop.host:
                transport.died()
        for job in loop.jobs.values():
            if self.rng.random() < 0.7:
                self.disk.fuse = self.rng.randrange(5)
                with suppress(PowerCut, OSError):  # cut amid its work, which is the point
                    job()
                self.disk.fuse = -1
        if not name.endswith("worker"):
            self.disk.stopped(loop.host)

    def power_cut(self, host: str, *, with_disk: bool = False) -> None:
        """A host goes dark; its disk loses what was not synced, or all."""
        for name in [name for name, loop in self.loops.items() if loop.host == host]:
            self.kill(name, power=True)
        self._off.add(host)
        self.disk.power_cut(host)
        if with_disk:
            self.disk.lost(host)
            self.lost_disks.append((self.now, host))

    async def _spool(self, host: str) -> None:
        tls = config.Tls("", f"mxfleet://node/{host}", "")
        spool = config.Spool(f"{host}.sock", str(self.disk.root / host), host, PORT, QUARANTINE, PORT, TIMEOUT_S)
        smtp = config.Smtp(host, 0, host)
        node = config.Node(host, host, "", "", (), smtp, spool, config.Etcd(()), tls)
        made = self.spools[host] = Spool(node, takeover_after_s=TAKEOVER_S)
        await made.run()

    async def _receive(self) -> None:
        tls = config.Tls("", "mxfleet://receiver", "")
        self.receiver = Receiver(self.disk.root / QUARANTINE, self.stores, tls, QUARANTINE, PORT)
        await self.receiver.run()

    async def _work(self, host: str) -> None:
        async with SpoolClient(f"{host}.sock", TIMEOUT_S) as client, asyncio.TaskGroup() as tasks:
            for _ in range(self.rng.randint(1, 3)):
                tasks.create_task(self._submit(host, client))

    async def _submit(self, host: str, client: SpoolClient) -> None:
        while True:
            await asyncio.sleep(self.rng.expovariate(2))
            if not self._is_sending:
                continue
            record_id = f"{host}-{self.number():08d}"
            copy = self.copies[record_id] = Copy(host, self.now)
            body = body_of(record_id)
            if self.rng.random() < 0.3:
                client.event(_record(host, f"{record_id}e", Kind.EVENT, b""))
            try:
                await client.secure(_record(host, record_id, Kind.KEPT, body), body)
            except NotSecured:
                copy.answer = "not secured"
            else:
                copy.answer = "secured"
                self._two_have(record_id)
            self.counts[copy.answer] += 1

    def _two_have(self, record_id: str) -> None:
        """Promise 2, when the answer arrives: two hosts have it on disk, or the quarantine has stored it."""
        if record_id in self.stores.rows.values():
            return
        hosts = {host for host in (*NODES, QUARANTINE) if record_id.encode() in self.disk.durable(host)}
        since = self.copies[record_id].asked_at
        hosts |= {f"{host} lost" for at, host in self.lost_disks if at >= since}
        if len(hosts) < 2:
            self.failed(f"promise 2: {record_id} was answered as secured and lies on {sorted(hosts) or 'no host'}")

    # --- what breaks

    def _plan_trouble(self) -> None:
        for _ in range(self.rng.randint(1, 7)):
            act = self.rng.choice((self._kill_one, self._kill_one, self._cut_power, self._lose_disk, self._freeze,
                                   self._partition, self._partition, self._database_away))  # fmt: skip
            self.after(self.rng.uniform(0.2, 4.0), act)

    def _heal(self) -> None:
        self._cut.clear()
        self.stores.is_away = False
        for loop in self.loops.values():
            loop.is_frozen = False
        for host in (*NODES, QUARANTINE):
            self.start(host)

    def _kill_one(self) -> None:
        if self.loops and self._is_sending:
            name = self.rng.choice(sorted(self.loops))
            self.counts["kills"] += 1
            self.kill(name)
            self.after(self.rng.expovariate(1), lambda: self.start(name.partition(".")[0].replace("receiver", "q")))

    def _cut_power(self) -> None:
        if self._is_sending:
            host = self.rng.choice((*NODES, QUARANTINE))
            self.counts["cuts"] += 1
            self.power_cut(host)
            self.after(self.rng.uniform(0.1, 6.0), lambda: self.start(host))

    def _lose_disk(self) -> None:
        """Only where one more disk may go: promise 6 is about one node at a time, holders lost in sequence included."""
        host = self.rng.choice((*NODES, QUARANTINE))
        if not self._is_sending or not self._may_lose(host):
            return
        self.counts["disks"] += 1
        self.power_cut(host, with_disk=True)
        self.after(self.rng.uniform(0.1, 6.0), lambda: self.start(host))

    def _may_lose(self, host: str) -> bool:
        others = set[bytes]().union(*(self.disk.durable(other) for other in (*NODES, QUARANTINE) if other != host))
        stored = {name.encode() for name in self.stores.rows.values()}
        open_ = {name.encode() for name, copy in self.copies.items() if copy.answer == "secured"}
        mine = self.disk.durable(host)
        at_risk = open_ - stored - others
        return not (at_risk & mine)

    def _freeze(self) -> None:
        if self.loops:
            loop = self.loops[self.rng.choice(sorted(self.loops))]
            loop.is_frozen = True
            self.after(self.rng.uniform(0.1, 7.0), lambda: setattr(loop, "is_frozen", False))

    def _partition(self) -> None:
        one, other = self.rng.sample((*NODES, QUARANTINE), 2)
        pairs = {(one, other)} if self.rng.random() < 0.3 else {(one, other), (other, one)}
        self.counts["partitions"] += 1
        self._cut |= pairs
        self.after(self.rng.uniform(0.1, 8.0), lambda: self._cut.difference_update(pairs))

    def _database_away(self) -> None:
        self.stores.is_away = True
        self.after(self.rng.uniform(0.1, 5.0), lambda: setattr(self.stores, "is_away", False))

    # --- the end

    def _is_quiet(self) -> bool:
        if self.now < 1 or any(copy.answer == "" for copy in self.copies.values() if not self._died(copy)):
            return False
        idle = all(spool.records == 0 and spool.held_for_others == 0 for spool in self.spools.values())
        return idle and self.receiver is not None and self.receiver.backlog == 0

    def _died(self, copy: Copy, of: str = "worker") -> bool:
        return self.killed_at.get(f"{copy.node}.{of}", -1.0) >= copy.asked_at

    def _judge(self) -> None:
        """Promises 1 and 6: what was secured is stored once; the rest is not, but for what a death left undecided."""
        rows = list(self.stores.rows.values())
        twice = {name for name in rows if rows.count(name) > 1} if len(rows) != len(set(rows)) else set()
        if twice:
            raise Broken(f"promise 1: stored twice: {sorted(twice)}")
        stored = set(rows)
        for name, copy in self.copies.items():
            if copy.answer == "secured" and name not in stored:
                raise Broken(f"promise 6: {name} was secured and is not stored")
            if copy.answer != "secured" and name in stored:
                if not (self._died(copy) or self._died(copy, "spool")):
                    raise Broken(f"promise 1: {name} was answered 451 and is kept")
                self.counts["repeats"] += 1
            if not copy.answer and not self._died(copy):
                raise Broken(f"promise 1: {name} has no answer")
        if not self._is_quiet():
            left = {name: (spool.records, spool.held_for_others) for name, spool in self.spools.items()}
            raise Broken(f"it does not come to rest: {left}, receiver {self.receiver and self.receiver.backlog}")


def _record(node: str, record_id: str, kind: Kind, body: bytes) -> Record:
    to = RecipientResult(0, "a@example.test", "example.test", "acc1", Outcome.KEPT)
    return Record(record_id, kind, node, 0.0, "192.0.2.1", recipients=(to,), body_bytes=len(body))
