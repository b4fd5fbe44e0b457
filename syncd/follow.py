"""The follower of a node: etcd → last-known-good store → receipt. The decisions are `reconcile`'s.

It lists everything at one pinned revision, then watches from the next; each revision is taken in whole, made durable,
then reported. A connection that breaks or falls silent is thrown away and another one dialled, for ever; meanwhile the
store goes on serving what it has, and says how old that is.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing

import msgspec

from monitoring import log
from monitoring.metrics import syncd as metrics
from syncd import config, keys, reconcile
from syncd.etcd import Etcd
from syncd.intake import Decode, Intake
from syncd.kv import PAGE, Changes, Compacted, EtcdError, Page, after
from syncd.lastgood import Writer
from syncd.layers import Member
from syncd.published import HASH_CHARS, Meta, Point, Unreadable, read_meta
from syncd.receipts import Reporter
from syncd.rotate import Rotation
from syncd.status import State, Status, boot_id, monotonic
from syncd.warm import Warmer

SHARD_PAGE = 64
"""Shards have up to 256 KB each."""
DOUBT_AGAIN_S = 10.0
"""After a load whose content was not what META says, the next one waits so long: the publisher's compare mends it."""
BACKOFF_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
READER_CHECK_S = 60.0
OUT_S = 30.0
"""Being out of rotation lasts so long after the last proof that it is right: then the node serves what it knows."""
BREATH = 250
"""Values that are decoded in one go before others get a turn."""

_log = log.get(__name__)


class Doubtful(Exception):
    """What was loaded is not what META says: nothing was changed."""


class Follower:
    """Follows etcd into one store."""

    def __init__(
        self,
        node: str,
        place: config.Etcd,
        store: Writer,
        decode: Decode,
        warmer: Warmer,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._place, self._store, self._decode, self._warmer = place, store, decode, warmer
        self._clock = clock
        self._doubt: reconcile.Cause | None = None
        self._doubted_at = float("-inf")
        self._out, self._out_until = store.status.out, store.status.out_until
        self._reporter = Reporter(node, store.status)
        self._rotation = Rotation(node, self)
        self._say("stale" if store.status.complete else "unsynced")

    @property
    def status(self) -> Status:
        """How far the store is."""
        return self._store.status

    async def run(self) -> None:
        """Follow until cancelled."""
        failures = 0
        while True:
            try:
                async with Etcd(self._place, attempt=failures) as etcd, asyncio.TaskGroup() as tasks:
                    tasks.create_task(self.follow(etcd), name="follow")
                    tasks.create_task(self._reporter.run(etcd), name="report")
                    tasks.create_task(self._warmer.run(self._store), name="warm")
                    tasks.create_task(self._rotation.run(etcd), name="rotation")
            except* EtcdError as errors:
                failures = 1 if self.status.state == "live" else failures + 1
                if failures == 1:
                    _log.warning("etcd_lost", error=_first(errors), revision=self.status.revision)
            self.lost()
            pause_s = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))

    def lost(self) -> None:
        """The connection has ended: what is here is served on, and grows old."""
        self._say("stale" if self.status.complete else "unsynced")

    @property
    def members(self) -> frozenset[str]:
        """Nodes that take mail: joined, not draining, not drained."""
        with self._store.reading() as view:
            values = view.below(keys.MEMBERS)
        return frozenset(key.removeprefix(keys.MEMBERS) for key, value in values.items() if _is_joined(value))

    def leave(self, why: str) -> None:
        """Be out of rotation for this reason, for `OUT_S` from now; "" comes back. A load under way writes it last."""
        is_news = why != self._out
        self._out, self._out_until = why, monotonic() + OUT_S
        if (is_news or why) and self.status.state != "loading":
            self._store.say(msgspec.structs.replace(self.status, out=why, out_until=self._out_until))
        if is_news:
            self._reporter.tell(self.status)

    async def check_readers(self) -> None:
        """Run beside: frees the places of workers that died."""
        while True:
            await asyncio.sleep(READER_CHECK_S)
            self._store.drop_stale_readers()

    async def follow(self, etcd: Etcd) -> None:
        """Follow over this connection until it fails. Raises EtcdError."""
        while True:
            source = await self._source(etcd)
            step = reconcile.begin(self.status, source, self._doubt)
            if isinstance(step, reconcile.Load):
                step = await self._load_or_keep(etcd, step.cause)
            if isinstance(step, reconcile.Keep):
                await self._wait(etcd, source, step.why)
            else:
                await self._watch(etcd, step.since, source.meta.point if source.meta else self.status.point)

    async def _source(self, etcd: Etcd) -> reconcile.Source:
        found = await etcd.get(keys.META)
        try:
            meta = read_meta(value) if (value := found.values().get(keys.META)) else None
        except Unreadable as error:
            _log.error("meta_unreadable", error=str(error))
            meta = None
        return reconcile.Source(meta, found.revision, found.cluster)

    async def _watch(self, etcd: Etcd, since: int, published: Point) -> None:
        """Take in what comes, until the source has to be looked at anew; live once all that was `published` when we
        came is here. Raises EtcdAway."""
        try:
            async with aclosing(etcd.watch(keys.FIRST, keys.END, since=since)) as watch:
                async for changes in watch:
                    if not self._take(changes):
                        return
                    if self.status.state != "live" and self.status.point >= published:
                        self._say("live")
                        _log.info("live", revision=self.status.revision, etcd=etcd.endpoint)
        except Compacted:
            self._doubt = "compacted"
        except Unreadable as error:
            _log.error("meta_unreadable", error=str(error))
            self._doubt = "ahead"

    def _take(self, changes: Changes) -> bool:
        """Whether the watch can go on."""
        if not changes.items:
            self._say(self.status.state, heard=True)
            return True
        step = reconcile.take(self.status, changes.items)
        if isinstance(step, reconcile.Look):
            self._doubt = "ahead"
            return False
        self._apply(step)
        return self._doubt is None

    def _apply(self, step: reconcile.Apply) -> None:
        if step.ignored:
            metrics.follow_ignored.inc(step.ignored)
            _log.warning("not_published_by_a_publisher", keys=step.ignored, etcd_revision=step.etcd_revision)
        with self._store.change() as change:
            intake = Intake(change, self._decode, self.status, anew=False)
            for key, value in step.changes.items():
                intake.changed(key, value)
            change.status = self._status_after(step.meta, intake, step.etcd_revision)
        metrics.follow_events.inc(len(step.changes))
        self._tell()
        self._warmer.want(step.changes)
        if step.meta and not self.status.agrees:
            _log.error(
                "digest_differs", revision=self.status.revision, ours=self.status.digest, theirs=step.meta.digest
            )
            self._doubt = "digest" if self._may_load() else None

    async def _load_or_keep(self, etcd: Etcd, cause: reconcile.Cause) -> reconcile.Resume | reconcile.Keep:
        if not self._may_load():
            return reconcile.Keep("what etcd holds was not what META says a moment ago")
        metrics.follow_reloads.labels(cause).inc()
        _log.info("loading", cause=cause, etcd=etcd.endpoint)
        self._say("loading")
        try:
            await self._load(etcd)
        except Doubtful as error:
            self._doubt, self._doubted_at = "digest", self._clock()
            _log.error("load_differs", error=str(error))
            return reconcile.Keep(str(error))
        self._doubt = None
        self._tell()
        return reconcile.Resume(self.status.etcd_revision + 1)

    async def _load(self, etcd: Etcd) -> None:
        """Make the store what etcd holds at one revision. Raises Doubtful, and then nothing was changed."""
        head = await etcd.get(keys.META)
        meta = _meta_of(head, self.status)
        with self._store.change() as change:
            intake = Intake(change, self._decode, self.status, anew=True)
            for prefix, page in ((keys.SETTINGS, PAGE), (keys.SHARDS, SHARD_PAGE)):
                start = prefix
                async for found in etcd.pages(prefix, after(prefix), revision=head.revision, page=page):
                    start = await _take_page(intake, start, found)
                intake.drop_all_but((), start, after(prefix))
            tally = intake.tally
            if (tally.digest, tally.count) != (meta.digest, meta.count):
                raise Doubtful(f"content {tally.digest} of {tally.count} keys, META says {meta.digest} of {meta.count}")
            status = self._status_after(meta, intake, head.revision)
            change.status = msgspec.structs.replace(status, cluster=head.cluster, complete=True)

    async def _wait(self, etcd: Etcd, source: reconcile.Source, why: str) -> None:
        """Serve what is here until the source changes, or until it is time to try again what was in doubt."""
        _log.warning("keeping", why=why, revision=self.status.revision)
        self._doubt = self._doubt or ("ahead" if self.status.complete else None)
        self._say("stale" if self.status.complete else "unsynced")
        async with aclosing(etcd.watch(keys.META, keys.META + "\0", since=source.revision + 1)) as watch:
            async for changes in watch:
                if changes.items or (self._doubt == "digest" and self._may_load()):
                    return

    def _may_load(self) -> bool:
        return self._clock() - self._doubted_at > DOUBT_AGAIN_S

    def _status_after(self, meta: Meta | None, intake: Intake, etcd_revision: int) -> Status:
        found = {} if meta is None else {"generation": meta.generation, "revision": meta.revision}
        return msgspec.structs.replace(
            self.status,
            **found,
            published=self.status.published if meta is None else meta.digest,
            digest=intake.tally.digest,
            count=intake.tally.count,
            etcd_revision=etcd_revision,
            unreadable=tuple(sorted(intake.unreadable)),
            heard_at=monotonic(),
            boot=boot_id(),
            out=self._out,
            out_until=self._out_until,
        )

    def _say(self, state: State, *, heard: bool = False) -> None:
        """Write what state this is in, and report it if it is another."""
        was = self.status.state
        if state == was and not heard:
            return
        news = {"heard_at": monotonic(), "boot": boot_id()} if heard else {}
        with self._store.change() as change:
            change.status = msgspec.structs.replace(
                self.status, state=state, out=self._out, out_until=self._out_until, **news
            )
        _measure(self.status)
        if state != was:
            self._reporter.tell(self.status)

    def _tell(self) -> None:
        _measure(self.status)
        self._reporter.tell(self.status)


async def _take_page(intake: Intake, start: str, page: Page) -> str:
    """Take in one page; returns where the next one begins."""
    for number, (key, value) in enumerate(page.values().items(), 1):
        intake.found(key, value)
        if number % BREATH == 0:
            await asyncio.sleep(0)
    if not page.items:
        return start
    end = page.items[-1].key + "\0"
    intake.drop_all_but({item.key for item in page.items}, start, end)
    return end


def _meta_of(page: Page, have: Status) -> Meta:
    """META as it is to be loaded. Raises Doubtful when it went, was spoilt, or a fill began since it was looked at."""
    try:
        meta = read_meta(page.values().get(keys.META, b""))
    except Unreadable as error:
        raise Doubtful(str(error)) from error
    if not meta.is_whole or (have.complete and meta.point < have.point):
        raise Doubtful(f"META says {meta} by now")
    return meta


def _is_joined(value: bytes) -> bool:
    try:
        return msgspec.json.decode(value[HASH_CHARS:], type=Member).state == "joined"
    except msgspec.MsgspecError:
        return False  # reported as unreadable when it came


def _measure(status: Status) -> None:
    metrics.follow_generation.set(status.generation)
    metrics.follow_revision.set(status.revision)
    metrics.follow_unreadable.set(len(status.unreadable))
    metrics.follow_digest_agrees.set(status.agrees)
    for state in metrics.FOLLOW_STATES:
        metrics.follow_state.labels(state).set(state == status.state)


def _first(errors: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
