"""The open connections of one process to its next hops: bounded, kept open for a while, used again.

Connections are shared only by mails for the same host, port, TLS mode and name of ours. A connection that
the hop closes, or speaks on, while nobody uses it is dropped at once.
"""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, NamedTuple, Self

from syncd.layers import NextHop, TlsMode
from syncd.nexthop.connect import connect
from syncd.nexthop.connection import LEAVE_S, Broken, Connection, TimedOut
from syncd.nexthop.timeouts import Clock
from syncd.nexthop.transaction import After

STEP_BY_STEP_S = 600.0
"""How long a hop is not trusted with pipelining; a hop that restarts at the wrong moment looks the same."""
STEP_BY_STEP_HOPS = 1000
"""How many such hops are remembered; the oldest is forgotten first."""

How = Literal["opened", "reused", "stale", "waited"]
"""What is counted: connections opened, used again, found dead when used again; and waits for a free one."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections, and for how long."""

    per_hop: int = 20
    """Connections to one hop at a time; mails beyond wait for one."""
    idle_per_hop: int = 4
    """Kept open per hop while no mail uses them; 0 makes a connection a mail."""
    idle: int = 500
    """The same over all hops."""
    idle_s: float = 20.0
    """For how long; servers close idle clients after 30 s (some) to 5 minutes (RFC 5321 section 4.5.3.2.7)."""
    mails: int = 100
    """Mails over one connection; servers that count them stop at 100 or more."""


class Key(NamedTuple):
    """Mails of the same key may share a connection."""

    host: str
    port: int
    tls: TlsMode
    hostname: str


class _Lane:
    """The connections of one key."""

    def __init__(self, per_hop: int) -> None:
        self.room = asyncio.Semaphore(per_hop)
        self.users = 0
        self.idle: dict[Connection, asyncio.TimerHandle] = {}


class Pool:
    """Lends connections: `async with Pool() as pool`, then `take` and `give_back`. Belongs to one event loop.

    `verifying` is the TLS context of mode "verified", the system's authorities by default; `count` is
    told what happens.
    """

    def __init__(
        self,
        bounds: Bounds = Bounds(),
        *,
        verifying: ssl.SSLContext | None = None,
        count: Callable[[How], None] = lambda how: None,
    ) -> None:
        self._bounds, self._verifying, self._count = bounds, verifying, count
        self._lanes: dict[Key, _Lane] = {}
        self._open: dict[Connection, Key] = {}
        self._idle = 0
        self._step_by_step: dict[Key, float] = {}
        self._closed = False
        self._all_gone = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def take(self, hop: NextHop, hostname: str, clock: Clock, *, fresh: bool = False) -> Connection:
        """A connection for one mail, to be given back whatever happens; `mails` is above 0 when it was used before.

        `fresh` drops the idle ones and opens one. Raises what `connect` raises, and Broken when
        none gets free in time.
        """
        key = Key(hop.host, hop.port, hop.tls, hostname)
        lane = self._lanes.get(key) or self._lanes.setdefault(key, _Lane(self._bounds.per_hop))
        lane.users += 1
        try:
            await self._enter(lane, clock)
            try:
                return self._reused(lane, fresh) or await self._opened(key, hop, clock)
            except BaseException:
                lane.room.release()
                raise
        except BaseException:
            self._left(key, lane)
            raise

    def give_back(self, connection: Connection, after: After) -> None:
        """End the use of a connection: it is kept, takes its leave, or is cut."""
        key = self._open[connection]
        lane = self._lanes[key]
        if after is After.KEEP and self._may_stay(connection, lane):
            self._keep(connection, lane)
        elif after is After.ABORT or connection.has_unread:
            connection.abort()
        else:
            connection.leave()
        lane.room.release()
        self._left(key, lane)

    def found_stale(self) -> None:
        """A connection that was used before broke before it answered."""
        self._count("stale")

    def pipelines(self, hop: NextHop, hostname: str) -> bool:
        """Whether the hop may be trusted with pipelining."""
        until = self._step_by_step.get(Key(hop.host, hop.port, hop.tls, hostname))
        return until is None or until < asyncio.get_running_loop().time()

    def distrust(self, hop: NextHop, hostname: str) -> None:
        """Speak step by step with this hop for `STEP_BY_STEP_S`."""
        key = Key(hop.host, hop.port, hop.tls, hostname)
        self._step_by_step.pop(key, None)
        self._step_by_step[key] = asyncio.get_running_loop().time() + STEP_BY_STEP_S
        if len(self._step_by_step) > STEP_BY_STEP_HOPS:
            del self._step_by_step[next(iter(self._step_by_step))]

    @property
    def idle(self) -> int:
        """Connections kept open without use."""
        return self._idle

    async def close(self) -> None:
        """Take leave of idle connections; those in use do so when they are given back. Ends within `LEAVE_S`."""
        self._closed = True
        for lane in list(self._lanes.values()):
            self._dismiss_idle(lane)
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                while self._open:
                    self._all_gone.clear()
                    await self._all_gone.wait()
        for connection in list(self._open):
            connection.abort()

    async def _enter(self, lane: _Lane, clock: Clock) -> None:
        if not lane.room.locked():
            await lane.room.acquire()
            return
        self._count("waited")
        try:
            async with asyncio.timeout(clock.connect_s()):
                await lane.room.acquire()
        except TimeoutError as error:
            raise TimedOut("All connections to the next hop are in use") from error

    def _reused(self, lane: _Lane, fresh: bool) -> Connection | None:
        if fresh:
            self._dismiss_idle(lane)
        while lane.idle:
            connection, timer = lane.idle.popitem()
            self._idle -= 1
            timer.cancel()
            connection.resume()
            if connection.is_usable:
                self._count("reused")
                return connection
            connection.abort()
        return None

    async def _opened(self, key: Key, hop: NextHop, clock: Clock) -> Connection:
        if self._closed:
            raise Broken("We are shutting down")
        self._count("opened")
        connection = await connect(hop, key.hostname, clock, self._verifying)
        self._open[connection] = key
        connection.when_gone = lambda: self._gone(connection)
        return connection

    def _may_stay(self, connection: Connection, lane: _Lane) -> bool:
        bounds = self._bounds
        has_room = len(lane.idle) < bounds.idle_per_hop and self._idle < bounds.idle
        return has_room and not self._closed and connection.is_usable and connection.mails < bounds.mails

    def _keep(self, connection: Connection, lane: _Lane) -> None:
        loop = asyncio.get_running_loop()
        connection.rest()
        lane.idle[connection] = loop.call_later(self._bounds.idle_s, self._dismiss, connection)
        self._idle += 1

    def _dismiss(self, connection: Connection) -> None:
        self._forget_idle(connection)
        connection.leave()

    def _dismiss_idle(self, lane: _Lane) -> None:
        for connection in list(lane.idle):
            self._dismiss(connection)

    def _gone(self, connection: Connection) -> None:
        self._forget_idle(connection)
        del self._open[connection]
        if not self._open:
            self._all_gone.set()

    def _forget_idle(self, connection: Connection) -> None:
        key = self._open[connection]
        lane = self._lanes.get(key)
        timer = lane.idle.pop(connection, None) if lane else None
        if lane and timer:
            timer.cancel()
            self._idle -= 1
            self._tidy(key, lane)

    def _left(self, key: Key, lane: _Lane) -> None:
        lane.users -= 1
        self._tidy(key, lane)

    def _tidy(self, key: Key, lane: _Lane) -> None:
        if not lane.users and not lane.idle:
            self._lanes.pop(key, None)
