"""Feeds `control.receipts` from etcd: what was published, and what each node reports, for as long as the panel runs.

Lists both at a revision, then watches from the next; whatever ends a watch (etcd away, compaction, a restart) begins
this again. While etcd is away the state keeps what it heard, and that grows old visibly.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import msgspec

from control.receipts import Receipts
from monitoring import log
from monitoring.metrics import control as metrics
from syncd import keys

LOG = log.get(__name__)
AGAIN_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses before the next try; the last one repeats."""
WELL_S = 5.0
"""What went well for this long begins anew with the shortest pause."""


class WatchEnded(Exception):
    """A watch ended by itself; its sibling has to be begun anew with it."""


class Put(Protocol):
    """One key as it is now; `value` None when it was deleted."""

    @property
    def key(self) -> str: ...
    @property
    def value(self) -> bytes | None: ...


class Listed(Protocol):
    """Every key below a prefix at one revision."""

    @property
    def revision(self) -> int: ...
    @property
    def items(self) -> Sequence[Put]: ...


class Etcd(Protocol):
    """What the feed needs of an etcd client."""

    async def range(self, prefix: str) -> Listed:
        """The keys that begin with the prefix."""

    def watch(self, prefix: str, start_revision: int) -> AsyncIterator[Sequence[Put]]:
        """Their changes from a revision on, each revision's together; ends or raises when it cannot go on."""


async def follow(client: Etcd, receipts: Receipts, away: tuple[type[Exception], ...]) -> None:
    """Run for ever; `away` is what the client raises when etcd does not answer or a watch cannot go on."""
    ended: tuple[type[Exception], ...] = (*away, WatchEnded)
    tries = 0
    while True:
        began = time.monotonic()
        try:
            await _follow(client, receipts)
        except* ended as error:
            LOG.warning("receipts: not following etcd, trying again", error=repr(error.exceptions[0]))
        tries = 0 if time.monotonic() - began > WELL_S else min(tries + 1, len(AGAIN_S) - 1)
        await asyncio.sleep(AGAIN_S[tries])


async def _follow(client: Etcd, receipts: Receipts) -> None:
    """List, then watch until a watch ends."""
    published, told = await client.range(keys.META), await client.range(keys.RECEIPTS)
    for each in published.items:
        _take(each, receipts.wrote)
    for each in told.items:
        _take(each, receipts.told)
    receipts.heard_only({_node(each) for each in told.items})
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_watch(client.watch(keys.META, published.revision + 1), receipts.wrote, lambda _: None))
        tasks.create_task(_watch(client.watch(keys.RECEIPTS, told.revision + 1), receipts.told, receipts.silent))


async def _watch(
    batches: AsyncIterator[Sequence[Put]], take: Callable[[bytes], None], gone: Callable[[str], None]
) -> None:
    async for batch in batches:
        for each in batch:
            if each.value is None:
                gone(_node(each))
            else:
                _take(each, take)
    raise WatchEnded


def _take(each: Put, take: Callable[[bytes], None]) -> None:
    """Hand a value on; one that cannot be read is counted and passed over: other nodes' reports go on."""
    try:
        take(each.value or b"")
    except msgspec.DecodeError as error:
        metrics.receipts_unreadable.inc()
        LOG.warning("receipts: a value cannot be read", key=each.key, error=str(error))


def _node(each: Put) -> str:
    return each.key.removeprefix(keys.RECEIPTS)
