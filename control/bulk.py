"""Writes bulk changes in the background of the panel, so that nobody who changes one setting waits behind 10,000.

Revisions have one order, so what was committed first is published first: the lane yields where revisions are made. A
batch is small, is not begun while somebody else's change is on its way to the nodes, and not before the last but one is
in etcd, so that an interactive change finds at most two batches before it on its whole way.
"""

import asyncio
import time
from collections import deque
from typing import Any

import asyncpg

from control.receipts import Point, Receipts
from control.store import bulk_write, layers
from control.store.pool import AWAY
from monitoring import log

BATCH = 10
"""Domains in one transaction: some 6 ms, for which the revision counter's row is held a third. 25 made a bulk change
a fifth faster, and those beside it twice as slow."""
AHEAD = 1
"""Batches that may be on their way to etcd while the next one is written."""
YIELD_S = 0.25
"""A batch waits at most so long for interactive changes: a stream of them slows it down and does not stop it."""
STALL_S = 2.0
"""And at most so long for etcd: while that is away, a bulk change goes on at a crawl and leaves little to catch up."""
LOOK_S = 0.5
AGAIN_S = 0.004

LOG = log.get(__name__)


async def run(pool: Any, receipts: Receipts) -> None:
    """Write what is to be written, for ever; go on after the database was away."""
    while True:
        try:
            while bulk_id := await bulk_write.oldest_running(pool):
                if not await write(pool, receipts, bulk_id):
                    break
        except (*AWAY, asyncpg.PostgresError) as error:
            LOG.warning("bulk: the database does not answer, trying again", error=repr(error))
        await asyncio.sleep(LOOK_S)


async def write(pool: Any, receipts: Receipts, bulk_id: str) -> int:
    """Write one bulk change to its end; returns how many transactions that took, 0 when another process is at it."""
    count, on_the_way = 0, deque[Point]()
    while True:
        await _yield(pool, receipts)
        step = await bulk_write.step(pool, bulk_id, BATCH)
        if step is None:
            return count
        count += 1
        if step.point:
            on_the_way.append(step.point)
        if len(on_the_way) > AHEAD:
            await receipts.wait_published(on_the_way.popleft(), STALL_S)


async def _yield(pool: Any, receipts: Receipts) -> None:
    """Return when no interactive change is under way, or after `YIELD_S`. One that a node keeps waiting for longer is
    not waited for."""
    until = time.monotonic() + YIELD_S
    while time.monotonic() < until and (receipts.is_spreading(YIELD_S) or await layers.is_busy(pool)):  # noqa: ASYNC110 - the database is asked, not awaited
        await asyncio.sleep(AGAIN_S)
