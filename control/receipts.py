"""What every node has applied: the nodes' receipts, compared with what was published. Pure but for its waiters.

*Applied* is promise 4 of the design: a member counts when it reports at least the revision, in state `live`, with the
digest that META had at the very revision it reports, and can read the key in question. Members that were not heard
are awaited, never left out. `control.receipts_feed` tells this state what comes from etcd.
"""

import asyncio
import bisect
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from monitoring.metrics import control as metrics
from syncd import receipts

Point = tuple[int, int]
"""(generation, revision); pairs are compared everywhere (design, section 5)."""

LIVE = "live"
AWAY = "away"
"""State of a node whose lease has ended: it was heard once and is not heard now."""
UNHEARD = "unheard"
KEPT_POINTS = 2_000
"""Reports of a node, published digests and commits that are remembered; older ones have no time to tell any more."""


class Target(Protocol):
    """A change that members have to apply; `control.store.layers.Written` is one."""

    @property
    def generation(self) -> int: ...
    @property
    def revision(self) -> int: ...
    @property
    def key(self) -> str: ...
    @property
    def members(self) -> Sequence[str]: ...
    @property
    def stamp(self) -> int: ...


class Meta(msgspec.Struct, frozen=True):
    """What was published last, and the digest of all of it."""

    generation: int = 0
    revision: int = 0
    digest: str = ""
    stamp: int = 0
    filling: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """The last report of one node; `heard_at` is our monotonic clock."""

    receipt: receipts.Receipt
    heard_at: float

    @property
    def point(self) -> Point:
        """How far the node is."""
        return self.receipt.generation, self.receipt.revision


@dataclass(frozen=True, slots=True)
class At:
    """Where one member stands towards a change.

    `ms` is from our commit to its report, None when either is not known here; `age_s` is the age of its last report
    and `revision` what that said, None when it never reported. `agrees`: its digest is the published one; None when
    what was published at that revision is not known here.
    """

    applied: bool
    state: str
    revision: int | None
    ms: float | None
    age_s: float | None
    agrees: bool | None = None


class Receipts:
    """The fleet's receipts in memory. All methods belong to the event loop's thread."""

    def __init__(self) -> None:
        self._heard: dict[str, Heard] = {}
        self._reached: dict[str, deque[tuple[Point, float]]] = {}
        self._metas: OrderedDict[Point, Meta] = OrderedDict()
        self._committed: OrderedDict[Point, float] = OrderedDict()
        self._open: OrderedDict[Point, Target] = OrderedDict()
        self._generation = 0
        self._news = asyncio.Event()

    def snapshot(self) -> dict[str, Heard]:
        """The last report of each node by name; a node that never reported is not there."""
        return dict(self._heard)

    @property
    def published(self) -> Point | None:
        """The newest point known to be in etcd; None before META was seen."""
        return next(reversed(self._metas), None)

    @property
    def generation(self) -> int:
        """The highest generation that was heard of, from etcd or from any node; 0 for none."""
        told = (heard.receipt.generation for heard in self._heard.values())
        return max(self._generation, *told, 0)

    def committed(self, target: Target, asked_at: float = 0.0) -> None:
        """Note that a change was committed, so that its way to the nodes is timed: from `asked_at`, our monotonic clock
        when COMMIT was sent, or from now. A report can overtake the answer of the COMMIT."""
        point = (target.generation, target.revision)
        _remember(self._committed, point, asked_at or time.monotonic())
        if target.members:
            _remember(self._open, point, target)
        self._close_complete()

    def told(self, value: bytes) -> None:
        """Take a node's report as it came. Raises msgspec.DecodeError for what is none."""
        receipt = msgspec.json.decode(value, type=receipts.Receipt)
        now = time.monotonic()
        heard = Heard(receipt, now)
        before = self._heard.get(receipt.node)
        self._heard[receipt.node] = heard
        reached = self._reached.setdefault(receipt.node, deque(maxlen=KEPT_POINTS))
        if before is None or before.point != heard.point:
            if reached and reached[-1][0] > heard.point:
                reached.clear()  # its disk was lost and it began again: what it had reached is no longer true
            reached.append((heard.point, now))
        metrics.receipt_age_seconds.labels(receipt.node).set_function(lambda: self._age_s(receipt.node))
        self._spread_news()

    def silent(self, node: str) -> None:
        """A node's lease has ended."""
        if heard := self._heard.get(node):
            self._heard[node] = replace(heard, receipt=msgspec.structs.replace(heard.receipt, state=AWAY))
            self._spread_news()

    def heard_only(self, nodes: set[str]) -> None:
        """Of all receipts only these exist now: others ended while nobody listened."""
        for node in set(self._heard) - nodes:
            self.silent(node)

    def wrote(self, value: bytes) -> None:
        """Take META as it came; amid a fill it names nothing whole. Raises msgspec.DecodeError for what is none."""
        meta = msgspec.json.decode(value, type=Meta)
        self._generation = max(self._generation, meta.generation)
        if meta.filling:
            return
        _remember(self._metas, (meta.generation, meta.revision), meta)
        self._spread_news()

    def nodes(self, target: Target, names: Iterable[str] | None = None) -> dict[str, At]:
        """Where each member (or each of `names`) stands towards a change."""
        return {name: self._at(name, target) for name in (target.members if names is None else names)}

    def applied(self, target: Target) -> bool:
        """Whether every member has applied a change; never true of no members."""
        return bool(target.members) and all(self._at(name, target).applied for name in target.members)

    async def wait_applied(self, target: Target, timeout_s: float) -> bool:
        """Wait until every member has applied a change; False when the time is up first."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.applied(target):
                    await self._news.wait()
        except TimeoutError:
            return self.applied(target)
        return True

    async def wait_published(self, point: Point, timeout_s: float) -> bool:
        """Wait until etcd is known to hold this point or a later one; False when the time is up first."""
        try:
            async with asyncio.timeout(timeout_s):
                while (self.published or (0, 0)) < point:
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    def is_spreading(self, within_s: float) -> bool:
        """Whether the last change that was committed here is not applied yet, and no older than this."""
        point = next(reversed(self._open), None)
        return point is not None and time.monotonic() - self._committed.get(point, float("-inf")) < within_s

    def _at(self, name: str, target: Target) -> At:
        heard = self._heard.get(name)
        if heard is None:
            return At(False, UNHEARD, None, None, None)
        wanted = (target.generation, target.revision)
        published = self._metas.get(heard.point)
        agrees = None if published is None else published.digest == heard.receipt.digest
        applied = (
            published is not None
            and receipts.agrees(heard.receipt, wanted, published.digest, target.key)
            and _came_after(published, target)
        )
        state = "unreadable" if target.key in heard.receipt.unreadable else heard.receipt.state
        age_s = time.monotonic() - heard.heard_at
        return At(applied, state, heard.receipt.revision, self._ms(name, wanted), age_s, agrees)

    def _ms(self, name: str, wanted: Point) -> float | None:
        """Milliseconds from commit to this node's first report at or past the point."""
        committed, reached = self._committed.get(wanted), self._reached.get(name, ())
        index = bisect.bisect_left(list(reached), wanted, key=lambda each: each[0])
        if committed is None or index == len(reached):
            return None
        return max(0.0, (reached[index][1] - committed) * 1000)

    def _age_s(self, node: str) -> float:
        return time.monotonic() - self._heard[node].heard_at

    def _spread_news(self) -> None:
        self._close_complete()
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _close_complete(self) -> None:
        """Observe how long each change took to reach its last member."""
        for point, target in list(self._open.items()):
            if self.applied(target):
                del self._open[point]
                metrics.propagation_seconds.observe(time.monotonic() - self._committed.get(point, time.monotonic()))


def _came_after(published: Meta, target: Target) -> bool:
    """Whether what was published can hold the change. A database that was restored counts its revisions again: then the
    nodes are at a higher one, which was committed earlier, and have never seen this change."""
    return not (published.stamp and target.stamp) or published.stamp >= target.stamp


def _remember(table: OrderedDict[Point, Any], point: Point, value: Any) -> None:
    table[point] = value
    table.move_to_end(point)
    while len(table) > KEPT_POINTS:
        table.popitem(last=False)
