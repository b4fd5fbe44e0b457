"""Feeds `control.receipts` from etcd: what was published, and what each node reports, for as long as the panel runs.

Lists both at one revision, then watches from the next; whatever ends the watch (etcd away, compaction, a restart)
begins this again on a new connection. While etcd is away the state keeps what it heard, and that grows old visibly.
"""

import asyncio
import time
from collections.abc import Callable

import msgspec

from control.receipts import Receipts
from monitoring import log
from monitoring.metrics import control as metrics
from syncd import config, keys, kv
from syncd.etcd import Etcd

LOG = log.get(__name__)
FIRST, END = keys.RECEIPTS, keys.META + "\0"
"""META and the receipts lie side by side in the order of the keys, so that one watch sees both in their order."""
AGAIN_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses before the next try; the last one repeats."""
WELL_S = 10.0
"""What went well for this long begins anew with the shortest pause."""


async def follow(place: config.Etcd, receipts: Receipts) -> None:
    """Run for ever; each try goes to the next endpoint."""
    tries = endpoint = 0
    while True:
        began = time.monotonic()
        try:
            async with Etcd(place, endpoint) as client:
                await _follow(client, receipts)
        except kv.EtcdError as error:
            LOG.warning("receipts: not following etcd, trying again", error=f"{type(error).__name__}: {error}")
        tries = 0 if time.monotonic() - began > WELL_S else min(tries + 1, len(AGAIN_S) - 1)
        endpoint += 1
        await asyncio.sleep(AGAIN_S[tries])


async def _follow(client: Etcd, receipts: Receipts) -> None:
    """List, then watch until the watch ends. Raises EtcdError."""
    revision, listed = 0, set[str]()
    async for page in client.pages(FIRST, END):
        revision = page.revision
        for item in page.items:
            _take(item, receipts)
            listed.add(_node(item.key))
    receipts.heard_only(listed)
    async for changes in client.watch(FIRST, END, since=revision + 1):
        for item in changes.items:
            _take(item, receipts)


def _take(item: kv.Item, receipts: Receipts) -> None:
    """Hand one key on; a value that cannot be read is counted and passed over: other nodes' reports go on."""
    take: Callable[[bytes], None] = receipts.wrote if item.key == keys.META else receipts.told
    try:
        if item.value is not None:
            take(item.value)
        elif item.key != keys.META:
            receipts.silent(_node(item.key))
    except msgspec.DecodeError as error:
        metrics.receipts_unreadable.inc()
        LOG.warning("receipts: a value cannot be read", key=item.key, error=str(error))


def _node(key: str) -> str:
    return key.removeprefix(keys.RECEIPTS)
