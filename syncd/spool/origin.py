"""One of this node's own streams on its way: shipped to the receiver, copied to a peer where that is late, released.

A record goes to the receiver at once. What nobody holds after `HEDGE_S`, or at once while the receiver's link is down,
goes to a peer too, and to the next one if that is late as well. It is secured when one of them holds it and this host
has it on disk. What the receiver has stored is released here and at the peers.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from monitoring import log
from monitoring.metrics import syncd as metrics
from syncd.spool.copies import Copies, Waiting, within
from syncd.spool.frames import Kind
from syncd.spool.identity import Identity
from syncd.spool.journal import Journal, Kept
from syncd.spool.link import Link, Target
from syncd.spool.messages import Item, Lane, Purpose
from syncd.spool.ranges import Positions
from syncd.spool.record import Kind as RecordKind
from syncd.spool.stream import Ranges, Stream

HEDGE_S = 0.08
"""How long the receiver may take before a peer is asked too; a few times what it takes when all is well."""
RETRY_S, LAST_RETRY_S = 0.15, 5.0
LOST_S = 10.0
"""A holder that is away for so long is not relied on: its records go to another. A restart takes less."""
LOOK_S = 0.5
GIVE_AT_ONCE = 256
WARM_PEERS = 2
"""Peers to which a connection is kept, so that the first hedge need not wait for a handshake."""

_log = log.get(__name__)


class Origin:
    """A stream with its links. `run` serves it until it is cancelled, or for an older epoch until all is released."""

    def __init__(
        self, journal: Journal, receiver: Target, peers: Callable[[], Sequence[Target]], identity: Identity,
        *, is_current: bool,
    ) -> None:  # fmt: skip
        self.journal = journal
        self._receiver, self._peers, self._identity, self._is_current = receiver, peers, identity, is_current
        self._copies = Copies(journal.records)
        self._waiting = Waiting(time.monotonic)
        self._stored = Positions()
        self._links: dict[tuple[str, Lane], Link] = {}
        self._tasks: dict[tuple[str, Lane], asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._elsewhere: dict[int, asyncio.Future[None]] = {}
        self._hedge, self._emptied = asyncio.Event(), asyncio.Event()
        self._lost: set[str] = set()
        self._next = 1

    @property
    def stream(self) -> Stream:
        """Its name."""
        return self.journal.stream

    @property
    def alone_bytes(self) -> int:
        """Bytes of mail that only this node holds."""
        return self._copies.alone_bytes

    async def run(self) -> None:
        """Ship until cancelled; an older epoch until everything in it is released."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                beside = [group.create_task(self._watch()), group.create_task(self._give())]
                for kept in self._copies.alone():
                    self._waiting.put(kept.item.number, LOOK_S)
                self._link(self._receiver, "small")
                if any(kept.item.lane == "large" for kept in self.journal.records.values()):
                    self._link(self._receiver, "large")  # of an older epoch nothing new opens it
                if not self._is_current:
                    while self.journal.has_unsettled:
                        self._emptied.clear()
                        await self._emptied.wait()
                    for task in (*beside, *self._tasks.values()):
                        task.cancel()
        finally:
            self._group = None
            await self.journal.close()

    def take(self, item: Item, content: bytes) -> tuple[Kept, "asyncio.Future[None]", "asyncio.Future[None]"]:
        """Journal and ship a record: itself, the future of this disk, and that of the first other one.

        Its position is given here; `item.number` is not used.
        """
        position, self._next = self._next, self._next + 1
        item = Item(position, item.kind, item.id, item.header_bytes, item.body_bytes, item.crc, time.time())
        on_disk = self.journal.append(item, content)
        kept = self.journal.records[position]
        self._copies.added(kept)
        elsewhere = self._elsewhere[position] = asyncio.get_running_loop().create_future()
        on_disk.add_done_callback(lambda done: self._unwritten(kept, done))
        if link := self._link(self._receiver, item.lane):
            link.ship(kept)
        if item.kind is not RecordKind.EVENT:
            first = self._links.get((self._receiver.name, "small"))
            self._waiting.put(position, HEDGE_S if first and first.is_up else 0.0)
            self._hedge.set()
        return kept, on_disk, elsewhere

    def withdraw(self, kept: Kept) -> None:
        """Take back a record that nobody relies on: here, and wherever it went, the quarantine included."""
        self.journal.withdraw(kept)
        self._gone(kept)
        one = ((kept.item.number, kept.item.number),)
        for (_, lane), link in self._links.items():
            if lane == kept.item.lane:
                link.tell(Kind.WITHDRAWN, one)

    def welcomed(self, link: Link, held: Positions, stored: Positions) -> Iterable[Kept]:
        """See `syncd.spool.link.Cargo`."""
        self._lost.discard(link.target.name)
        self._now_stored(stored)
        self._now_held(link, held)
        if link.lane == "small":
            self._alone_again(self._copies.lost(link.target.name, but=held))
        if link.target == self._receiver:
            link.tell(Kind.WITHDRAWN, self._withdrawn.ranges())
            wanted = list(self.journal.records.values())
        else:
            self._tell_again(link, held)
            wanted = list(self._copies.alone())
        return [kept for kept in wanted if kept.item.lane == link.lane and kept.item.number not in held]

    async def content(self, kept: Kept) -> bytes | None:
        """See `syncd.spool.link.Cargo`. What this disk spoiled is set aside, and not shipped."""
        if self.journal.records.get(kept.item.number) is not kept:
            return None
        try:
            return await self.journal.read(kept)
        except (OSError, ValueError) as error:
            if self.journal.records.get(kept.item.number) is not kept:
                return None  # released while it was read
            _log.error("own_record_damaged", stream=str(self.stream), position=kept.item.number, error=str(error))
            await asyncio.to_thread(self.journal.set_aside, kept)
            if self.journal.release(kept.item.number):
                self._gone(kept)
            return None

    def held(self, link: Link, ranges: Ranges) -> None:
        """See `syncd.spool.link.Cargo`. What reached a peer on a connection that was given up is held for nothing."""
        self._now_held(link, Positions(ranges))
        if link.target != self._receiver:
            self._tell_again(link, Positions(ranges))

    def _tell_again(self, link: Link, held: Positions) -> None:
        """Tell a peer what of that which it holds it need not."""
        link.tell(Kind.WITHDRAWN, held.common(self._withdrawn))
        link.tell(Kind.RELEASED, held.common(self._stored))

    @property
    def _withdrawn(self) -> Positions:
        return Positions((position, position) for position in sorted(self.journal.withdrawn))

    def stored(self, link: Link, ranges: Ranges) -> None:
        """See `syncd.spool.link.Cargo`."""
        self._now_stored(Positions(ranges))

    def withdrawn(self, link: Link, ranges: Ranges) -> None:
        """See `syncd.spool.link.Cargo`. STORED will not do: it may be from before the withdrawal."""
        self._stored.update(ranges)
        self.journal.settle(Positions(ranges))
        self._emptied.set()

    def went_down(self, link: Link) -> None:
        """See `syncd.spool.link.Cargo`. What was under way to the receiver goes to a peer now."""
        self._hedge.set()

    def _now_held(self, link: Link, positions: Positions) -> None:
        for kept in self._copies.held(link.target.name, positions):
            self._waiting.drop(kept.item.number)
            metrics.spool_held_seconds.observe(max(0.0, time.time() - kept.item.at))
            self._tell_elsewhere(kept)

    def _now_stored(self, positions: Positions) -> None:
        self._stored.update(positions.ranges())
        gone = within(self.journal.records, positions)
        for kept in gone:
            metrics.spool_stored_seconds.observe(max(0.0, time.time() - kept.item.at))
            self._tell_elsewhere(kept)
            self.journal.release(kept.item.number)
        for (name, lane), link in self._links.items():
            if name != self._receiver.name:
                told = Positions(
                    (kept.item.number, kept.item.number)
                    for kept in gone
                    if kept.item.lane == lane and (name in kept.holders or link.has(kept))
                )
                link.tell(Kind.RELEASED, told.ranges())
        for kept in gone:
            self._gone(kept)

    def _tell_elsewhere(self, kept: Kept) -> None:
        done = self._elsewhere.pop(kept.item.number, None)
        if done and not done.done():
            done.set_result(None)

    def _gone(self, kept: Kept) -> None:
        """It is no longer in the journal."""
        if not self._copies.removed(kept):
            return
        self._waiting.drop(kept.item.number)
        self._elsewhere.pop(kept.item.number, None)
        self._emptied.set()

    def _unwritten(self, kept: Kept, done: "asyncio.Future[None]") -> None:
        """A record that this disk did not take is nowhere, wherever it went meanwhile."""
        if not done.cancelled() and done.exception():
            self.withdraw(kept)

    def _link(self, target: Target, lane: Lane) -> Link | None:
        """The link to a holder, begun at the first use; None while we do not run."""
        key = (target.name, lane)
        if key not in self._links and self._group is not None:
            purpose = Purpose.OWN if target == self._receiver else Purpose.COPY
            self._links[key] = Link(target, purpose, lane, self, self._identity, self._holder_names)
            self._tasks[key] = self._group.create_task(self._links[key].run())
        return self._links.get(key)

    def _holder_names(self) -> tuple[str, ...]:
        return tuple(peer.name for peer in self._peers()[:WARM_PEERS])

    async def _give(self) -> None:
        """Give what nobody holds to a peer, and to the next, as their times come."""
        while True:
            self._hedge.clear()
            try:
                in_s = self._waiting.next_in_s()
                async with asyncio.timeout(in_s if in_s < LOOK_S else LOOK_S):
                    await self._hedge.wait()
            except TimeoutError:
                pass
            for position, tries in self._waiting.due(GIVE_AT_ONCE):
                kept = self.journal.records.get(position)
                if kept and not kept.holders:
                    self._give_one(kept, tries)

    def _give_one(self, kept: Kept, tries: int) -> None:
        up = [peer for peer in self._peers() if (link := self._links.get((peer.name, "small"))) and link.is_up]
        if up:
            link = self._link(up[tries % len(up)], kept.item.lane)
            if link:
                link.ship(kept)  # a large lane that only begins asks for it when it is welcomed
        self._waiting.put(kept.item.number, min(LAST_RETRY_S, RETRY_S * 2 ** min(tries, 10)), tries + 1)

    async def _watch(self) -> None:
        """Keep connections to peers, and rely on no holder that is away for long."""
        while True:
            self._choose_peers()
            for (name, lane), link in list(self._links.items()):
                is_away = not link.is_up and time.monotonic() - link.down_since > LOST_S
                if lane == "small" and is_away and name not in self._lost:
                    self._lose(name)
            await asyncio.sleep(LOOK_S)

    def _choose_peers(self) -> None:
        peers, working = self._peers(), 0
        if self._is_current or self._copies.alone_bytes:
            for peer in peers:
                link = self._link(peer, "small")
                working += bool(link and not link.has_failed)
                if working == WARM_PEERS:
                    break
        current = {(peer.name, peer) for peer in peers}
        for key, link in list(self._links.items()):
            if link.target != self._receiver and (link.target.name, link.target) not in current:
                self._tasks.pop(key).cancel()
                del self._links[key]
                self._lose(link.target.name)

    def _lose(self, name: str) -> None:
        self._lost.add(name)
        alone = self._copies.lost(name)
        if alone:
            _log.warning("holder_lost", holder=name, records=len(alone))
        self._alone_again(alone)

    def _alone_again(self, alone: Iterable[Kept]) -> None:
        for kept in alone:
            self._waiting.put(kept.item.number, 0.0)
        self._hedge.set()
