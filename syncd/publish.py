"""The publisher: PostgreSQL's outbox → etcd, in order of revision, each write guarded by what etcd holds.

Its position is META in etcd and nothing else, so that it can begin anywhere, twice, or after any crash. One
publisher is elected by a lease; that saves work, and nothing depends on it: of two at once, one writes nothing.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime

from monitoring import log
from monitoring.metrics import syncd as metrics
from syncd import compare, config, keys, outbox, put, reconcile
from syncd.etcd import Etcd
from syncd.kv import EtcdError, Guard
from syncd.outbox import DatabaseAway, Outbox, Row
from syncd.published import Meta, Point, sealed
from syncd.put import Head, Overtaken
from syncd.reconcile import Step

AT_ONCE = 100
"""Rows in one transaction."""
POLL_S = 1.0
"""Between looks for what no notification told of, and at META, which somebody may have taken away."""
LEASE_S = 5
COMPARE_S = 900.0
COMPARE_TRIES = 10
"""A compare needs a META that stays for the time of one question; at 100 changes a second the first try fails often."""
STOPPED_S = 5.0
BACKOFF_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
TIDY_S = 600.0
KEEP_REVISIONS_S = 3600.0
"""etcd's history is kept so long: a node that was away for less resumes, one that was away longer loads."""
KEEP_ROWS = 10_000
"""Revisions of the outbox that are kept though superseded."""

_log = log.get(__name__)


class Publisher:
    """Publishes one database into one etcd. `identity` names the place: a restarted publisher takes over at once."""

    def __init__(self, dsn: str, place: config.Etcd, identity: str) -> None:
        self._dsn, self._place, self._identity = dsn, place, identity.encode()
        self._well = False
        self._suspect = False

    @property
    def trouble(self) -> str:
        """Why nothing is published now; "" while it is."""
        return "" if self._well else "not connected to PostgreSQL and etcd, or another publisher is at work"

    async def run(self) -> None:
        """Publish until cancelled."""
        failures = 0
        while True:
            try:
                await self._session(failures)
            except* (EtcdError, DatabaseAway) as errors:
                failures = 1 if self._well else failures + 1
                if failures == 1:
                    _log.warning("publishing_interrupted", error=_first(errors))
            self._well = False
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] * random.uniform(0.5, 1.0))

    async def _session(self, attempt: int) -> None:
        async with outbox.connect(self._dsn) as rows, Etcd(self._place, attempt) as etcd:
            lease = await self._elected(etcd)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_hold(etcd, lease), name="election")
                tasks.create_task(_tidy(etcd), name="tidy")
                tasks.create_task(self.publish(etcd, rows), name="publish")
                tasks.create_task(self._compare_often(etcd), name="compare")

    async def _elected(self, etcd: Etcd) -> int:
        """Wait until nobody else publishes; returns the lease."""
        while True:
            found = (await etcd.get(keys.ELECTION)).items
            if not found or found[0].value == self._identity:
                lease = await etcd.grant(LEASE_S)
                guard = Guard(keys.ELECTION, found[0].revision if found else 0)
                if await etcd.write([guard], [(keys.ELECTION, self._identity)], lease=lease) is not None:
                    _log.info("elected", etcd=etcd.endpoint)
                    return lease
            await asyncio.sleep(POLL_S)

    async def publish(self, etcd: Etcd, rows: Outbox) -> None:
        """Publish over these connections until one fails. Raises EtcdError, DatabaseAway."""
        while True:
            try:
                head, counter = await put.head(etcd), await rows.counter()
                gapless = await rows.is_gapless(head.point[1], counter[1])
                stamp = await rows.stamp(head.point[1])
                step = reconcile.publish(head.meta, counter, gapless=gapless, stamp=stamp)
                metrics.publish_stopped.set(step is Step.STOP)
                if step is Step.STOP:
                    await self._stop(head, counter)
                elif step is Step.REPUBLISH:
                    await self._republish(etcd, rows, head, counter)
                else:
                    await self._drain(etcd, rows, head)
            except Overtaken:
                _log.info("overtaken")

    async def _stop(self, head: Head, counter: Point) -> None:
        self._well = False
        _log.error(
            "database_behind_etcd",
            etcd=head.point,
            database=counter,
            hint="was PostgreSQL restored? `mxctl restore` publishes it as it is, under a new generation",
        )
        await self._pause(STOPPED_S)

    async def _republish(self, etcd: Etcd, rows: Outbox, head: Head, counter: Point) -> None:
        found = await compare.compare(etcd, rows, head, counter[1])
        _log.warning("republishing", point=counter, missing=len(found.missing), surplus=len(found.surplus))
        await compare.republish(etcd, rows, head, counter, found)

    async def _drain(self, etcd: Etcd, rows: Outbox, head: Head) -> None:
        """Publish what is committed, as it is committed, until the source has to be looked at anew."""
        self._well = True
        while True:
            if self._suspect:
                self._suspect = False
                await self._repair(etcd, rows, head)
                return
            rows.news.clear()
            found = await rows.changes(head.point[1], AT_ONCE)
            if not found and not await self._idle(etcd, rows, head):
                return
            if found and _is_other(found[0], head):
                return
            if found:
                head = await self._put(etcd, rows, head, found)

    async def _put(self, etcd: Etcd, rows: Outbox, head: Head, found: Sequence[Row]) -> Head:
        """Put the first of these changes into etcd, as many as one transaction holds."""
        taken = put.fitting(found)
        if not taken:
            return await self._put_large(etcd, rows, head, found[0].revision)
        for part in put.split(await _missing_shards(etcd, rows, taken)):
            head = await put.put(etcd, head, part, {}, head.point, head.stamp)
        writes = {row.key: None if row.value is None else sealed(row.value) for row in taken}
        before = await rows.values(list(writes), head.point[1])
        sealed_before = {key: sealed(value) for key, value in before.items()}
        head = await put.put(etcd, head, writes, sealed_before, (head.point[0], taken[-1].revision), taken[-1].stamp)
        _measure(taken)
        if len(found) >= AT_ONCE:
            metrics.publish_lag.set(await rows.lag(head.point[1]))
        return head

    async def _put_large(self, etcd: Etcd, rows: Outbox, head: Head, revision: int) -> Head:
        """A revision that no transaction holds (a repair of many keys) is put in by compare."""
        found = await compare.compare(etcd, rows, head, revision)
        return await compare.republish(etcd, rows, head, (head.point[0], revision), found)

    async def _idle(self, etcd: Etcd, rows: Outbox, head: Head) -> bool:
        """Wait for news. False when the position has to be found anew."""
        metrics.publish_revision.set(head.point[1])
        metrics.publish_lag.set(0)
        if await self._news(rows):
            return True
        return (await put.head(etcd)).revision == head.revision and await rows.counter() == head.point

    async def _news(self, rows: Outbox) -> bool:
        """Wait for news, or `POLL_S`; whether there are any."""
        try:
            await asyncio.wait_for(rows.news.wait(), POLL_S)
        except TimeoutError:
            return False
        return True

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _compare_often(self, etcd: Etcd) -> None:
        """Look for drift, beside publishing: 100,000 keys take seconds, for which nobody's change waits."""
        while True:
            async with outbox.connect(self._dsn) as rows:
                await self.suspect(etcd, rows)
            await asyncio.sleep(COMPARE_S)

    async def suspect(self, etcd: Etcd, rows: Outbox) -> None:
        """Compare once; if something differs, it is compared again and repaired between two changes."""
        for _ in range(COMPARE_TRIES):
            head = await put.head(etcd)
            try:
                found = await compare.compare(etcd, rows, head, head.point[1])
            except Overtaken:
                continue
            if head.meta and head.meta.is_whole:
                self._suspect = found.is_drift(head.meta) or bool(found.surplus)
                await rows.trim(head.point[1] - KEEP_ROWS)
            return

    async def _repair(self, etcd: Etcd, rows: Outbox, head: Head) -> None:
        """Compare everything; where etcd drifted, give what differs a revision of its own and publish that. Shards
        that no key names any more are dropped."""
        found = await compare.compare(etcd, rows, head, head.point[1])
        point = head.point
        if found.is_drift(head.meta or Meta()):
            drifted = [key for key in (*found.missing, *found.surplus) if not key.startswith(keys.SHARDS)]
            metrics.publish_repairs.inc(len(found.missing) + len(found.surplus))
            _log.error("etcd_drifted", missing=found.missing[:10], surplus=found.surplus[:10], count=len(drifted))
            point = (head.point[0], await rows.renew(drifted))
            found = await compare.compare(etcd, rows, head, point[1])
        elif found.surplus:
            _log.info("shards_dropped", count=len(found.surplus))
        else:
            return
        await compare.republish(etcd, rows, head, point, found)


async def _missing_shards(etcd: Etcd, rows: Outbox, found: Sequence[Row]) -> dict[str, bytes | None]:
    """Shards that these changes name and etcd lacks, by key."""
    names = [name for row in found if row.value is not None for name in compare.named(row.key, row.value)]
    wanted = list(dict.fromkeys(map(keys.shard, names)))
    present: set[str] = set()
    for start in range(0, len(wanted), AT_ONCE):
        page = await etcd.read(wanted[start : start + AT_ONCE], keys_only=True)
        present.update(item.key for item in page.items)
    missing = [key.removeprefix(keys.SHARDS) for key in wanted if key not in present]
    bodies = await rows.shards(missing) if missing else {}
    if lost := set(missing) - set(bodies):
        _log.error("shards_not_in_database", shards=sorted(lost)[:10])
    return {keys.shard(name): body for name, body in bodies.items()}


def _is_other(row: Row, head: Head) -> bool:
    """Whether the database is another one by now: restored, or said to be in a new generation."""
    return row.generation != head.point[0] or bool(row.base and head.stamp and row.base != head.stamp)


def _measure(rows: Sequence[Row]) -> None:
    now = datetime.now(UTC)
    for row in rows:
        lane = metrics.publish_seconds.labels("bulk" if row.bulk else "interactive")
        lane.observe(max(0.0, (now - row.committed_at).total_seconds()))
    metrics.publish_revision.set(rows[-1].revision)


async def _hold(etcd: Etcd, lease: int) -> None:
    while True:
        await asyncio.sleep(LEASE_S / 3)
        await etcd.keep_alive(lease)


async def _tidy(etcd: Etcd) -> None:
    """Forget etcd's old revisions."""
    marks: deque[tuple[float, int]] = deque()
    while True:
        now = time.monotonic()
        at = await etcd.get(keys.META)
        marks.append((now, at.revision))
        while marks and now - marks[0][0] > KEEP_REVISIONS_S:
            await etcd.compact(marks.popleft()[1])
        await asyncio.sleep(TIDY_S)


def _first(errors: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
