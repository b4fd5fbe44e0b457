"""A node's place in rotation: reads the peers' receipts, and leaves or comes back as `rotation` says.

Who is out stands in one key that is written under a guard, so that two nodes cannot both leave in the belief that the
other stays.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from monitoring import log
from monitoring.metrics import syncd as metrics
from syncd import keys
from syncd.etcd import Etcd
from syncd.kv import Guard, after
from syncd.receipts import Receipt
from syncd.rotation import Memory, Turn, look, turn
from syncd.status import Status

LOOK_S = 2.5
"""Between two looks; 50 nodes ask for some 10 KB each."""

_log = log.get(__name__)


class Follows(Protocol):
    """What is needed of the follower."""

    @property
    def status(self) -> Status:
        """How far the store is."""

    @property
    def members(self) -> frozenset[str]:
        """Nodes that take mail: joined, not draining, not drained."""

    def leave(self, why: str) -> None:
        """Be out of rotation for this reason; "" comes back."""


class Rotation:
    """One node's."""

    def __init__(self, node: str, follows: Follows, clock: Callable[[], float] = time.monotonic) -> None:
        self._node, self._follows, self._clock = node, follows, clock
        self._memory = Memory()

    async def run(self, etcd: Etcd) -> None:
        """Look for ever. Raises EtcdError; who is out and cannot ask comes back when its proof has grown old."""
        while True:
            await self.look(etcd)
            await asyncio.sleep(LOOK_S)

    async def look(self, etcd: Etcd) -> Turn:
        """Look once, and do what is to be done. Raises EtcdError."""
        peers = await self._peers(etcd)
        out, revision = await _out(etcd)
        self._memory = look(self._memory, self._follows.status, peers, self._clock())
        step = turn(self._node, self._memory, out, peers)
        metrics.follow_last_in_rotation.set(step is Turn.LAST)
        if step is Turn.LEAVE and await _write(etcd, out | {self._node}, revision):
            self._leave(self._memory.why)
        elif step in (Turn.RETURN, Turn.LAST):
            self._leave("")
            if self._node in out:
                await _write(etcd, out - {self._node}, revision)
            if step is Turn.LAST:
                _log.error("last_in_rotation", why=self._memory.why, revision=self._follows.status.revision)
        elif step is Turn.STAY:
            self._leave(self._memory.why or self._follows.status.out if self._node in out else "")
        return step

    def _leave(self, why: str) -> None:
        if bool(why) != bool(self._follows.status.out):
            _log.warning("out_of_rotation" if why else "in_rotation", why=why, revision=self._follows.status.revision)
            metrics.follow_rotations.labels("left" if why else "returned").inc()
        metrics.follow_in_rotation.set(not why)
        self._follows.leave(why)

    async def _peers(self, etcd: Etcd) -> list[Receipt]:
        members = self._follows.members - {self._node}
        found = []
        async for page in etcd.pages(keys.RECEIPTS, after(keys.RECEIPTS)):
            for key, value in page.values().items():
                if key.removeprefix(keys.RECEIPTS) in members and (told := _read(value)):
                    found.append(told)
        return found


async def _out(etcd: Etcd) -> tuple[frozenset[str], int]:
    """Who is out of rotation, and etcd's revision of the key that says so."""
    for item in (await etcd.get(keys.ROTATION)).items:
        try:
            return frozenset(msgspec.json.decode(item.value or b"", type=list[str])), item.revision
        except msgspec.MsgspecError as error:
            _log.error("rotation_unreadable", error=str(error))
            return frozenset(), item.revision
    return frozenset(), 0


async def _write(etcd: Etcd, out: frozenset[str], revision: int) -> bool:
    """Whether nobody else wrote it since; if somebody did, the next look decides anew."""
    value = msgspec.json.encode(sorted(out))
    return await etcd.write([Guard(keys.ROTATION, revision)], [(keys.ROTATION, value)]) is not None


def _read(value: bytes) -> Receipt | None:
    try:
        return msgspec.json.decode(value, type=Receipt)
    except msgspec.MsgspecError as error:
        _log.warning("receipt_unreadable", error=str(error))
        return None
