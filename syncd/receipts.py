"""A node's receipt: what it has applied, written into etcd under a lease that lives as long as the node is heard."""

import asyncio
import os
import time
from collections.abc import Callable
from importlib import metadata
from typing import Protocol

import msgspec

from syncd import keys
from syncd.published import Point
from syncd.status import Status

LEASE_S = 10
KEEP_ALIVE_S = 3.0
AGAIN_S = 5.0
"""A receipt is written at least so often, so that its age says something."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a node reports.

    `at` is its unix time; `unreadable` names keys whose last readable value goes on serving;
    `agrees`: its content is what was published; `out`: why it takes no new sessions, "" while it does.
    """

    node: str
    generation: int
    revision: int
    digest: str
    state: str
    at: float
    unreadable: tuple[str, ...] = ()
    agrees: bool = False
    out: str = ""
    version: str = ""
    pid: int = 0

    @property
    def point(self) -> Point:
        """For comparing."""
        return self.generation, self.revision


def receipt(node: str, status: Status, *, at: float, version: str = "", pid: int = 0) -> Receipt:
    """The receipt of a store in this state."""
    return Receipt(
        node=node,
        generation=status.generation,
        revision=status.revision,
        digest=status.digest,
        state=status.state,
        at=at,
        unreadable=status.unreadable,
        agrees=status.agrees,
        out=status.out,
        version=version,
        pid=pid,
    )


def agrees(told: Receipt | None, wanted: Point, published: str | None, key: str) -> bool:
    """Whether a member has applied a change of `key` at `wanted`; `published` is META's digest at the revision the
    receipt names, None when that is not known. A member that was not heard has applied nothing. In another generation
    something was restored: whether a change outlived that, nobody can tell by its revision."""
    return (
        told is not None
        and told.state == "live"
        and told.generation == wanted[0]
        and told.revision >= wanted[1]
        and told.digest == published
        and key not in told.unreadable
    )


class Etcd(Protocol):
    """What the reporter needs of the client."""

    async def grant(self, ttl_s: int) -> int: ...
    async def keep_alive(self, lease: int) -> None: ...
    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int: ...


class Reporter:
    """Writes the newest receipt, one at a time: during a bulk change those in between are never written."""

    def __init__(self, node: str, status: Status, clock: Callable[[], float] = time.time) -> None:
        self._node, self._status, self._clock = node, status, clock
        self._news = asyncio.Event()
        self._version = metadata.version("mxfleet") if _is_installed() else ""

    def tell(self, status: Status) -> None:
        """Report this as soon as what is under way is written."""
        self._status = status
        self._news.set()

    async def run(self, etcd: Etcd) -> None:
        """Report over this connection until it fails. Raises EtcdError."""
        lease = await etcd.grant(LEASE_S)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write(etcd, lease), name="receipts")
            tasks.create_task(_keep_alive(etcd, lease), name="receipts' lease")

    async def _write(self, etcd: Etcd, lease: int) -> None:
        while True:
            self._news.clear()
            told = receipt(self._node, self._status, at=self._clock(), version=self._version, pid=os.getpid())
            await etcd.put(keys.receipt(self._node), msgspec.json.encode(told), lease=lease)
            try:
                await asyncio.wait_for(self._news.wait(), AGAIN_S)
            except TimeoutError:
                continue


async def _keep_alive(etcd: Etcd, lease: int) -> None:
    while True:
        await asyncio.sleep(KEEP_ALIVE_S)
        await etcd.keep_alive(lease)


def _is_installed() -> bool:
    try:
        metadata.version("mxfleet")
    except metadata.PackageNotFoundError:
        return False
    return True
