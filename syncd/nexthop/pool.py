"""The open connections of one process to its next hops: bounded, kept open for a while, used again.

Connections are shared only by mails of the same route. One that the hop closes, or speaks on, while nobody
uses it is dropped at once.
"""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from syncd.nexthop.connect import Route, connect
from syncd.nexthop.connection import LEAVE_S, Broken, Connection, TimedOut
from syncd.nexthop.idle import Idle
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


class _Lane:
    """The mails under way, or waiting, on one route."""

    def __init__(self, width: int) -> None:
        self.room = asyncio.Semaphore(width)
        self.users = 0


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
        self._idle = Idle(per_route=bounds.idle_per_hop, in_all=bounds.idle, seconds=bounds.idle_s)
        self._lanes: dict[Route, _Lane] = {}
        self._open: set[Connection] = set()
        self._step_by_step: dict[Route, float] = {}
        self._closed = False
        self._all_gone = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def idle(self) -> int:
        """Connections kept open without use."""
        return len(self._idle)

    async def take(self, route: Route, clock: Clock, *, fresh: bool = False) -> Connection:
        """A connection for one mail, to be given back whatever happens; `mails` is above 0 when it was used before.

        `fresh` sends the idle ones away and opens one. Raises what `connect` raises, and Broken when
        none gets free in time or the pool is closed.
        """
        lane = self._lanes.get(route) or self._lanes.setdefault(route, _Lane(self._bounds.per_hop))
        lane.users += 1
        entered = False
        try:
            await self._enter(lane, clock)
            entered = True
            return self._reused(route, fresh=fresh) or await self._opened(route, clock)
        except BaseException:
            self._left(route, lane, entered=entered)
            raise

    def give_back(self, route: Route, connection: Connection, after: After) -> None:
        """End the use of a connection: it is kept, takes its leave, or is cut."""
        if after is After.ABORT:
            connection.abort()
        elif after is After.KEEP and self._may_rest(route, connection):
            self._idle.add(route, connection)
        else:
            connection.leave()
        self._left(route, self._lanes[route], entered=True)

    def pipelines(self, route: Route) -> bool:
        """Whether the hop may be trusted with pipelining."""
        until = self._step_by_step.get(route)
        return until is None or until < asyncio.get_running_loop().time()

    def distrust(self, route: Route) -> None:
        """Speak step by step with this hop for `STEP_BY_STEP_S`."""
        self._step_by_step.pop(route, None)
        self._step_by_step[route] = asyncio.get_running_loop().time() + STEP_BY_STEP_S
        if len(self._step_by_step) > STEP_BY_STEP_HOPS:
            del self._step_by_step[next(iter(self._step_by_step))]

    def found_stale(self) -> None:
        """A connection that was used before broke before it answered."""
        self._count("stale")

    async def close(self) -> None:
        """Take leave of idle connections, wait `LEAVE_S` for those in use to be given back, and cut the rest."""
        self._closed = True
        self._idle.close()
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

    def _left(self, route: Route, lane: _Lane, *, entered: bool) -> None:
        lane.users -= 1
        if entered:
            lane.room.release()
        if not lane.users:
            del self._lanes[route]

    def _reused(self, route: Route, *, fresh: bool) -> Connection | None:
        if fresh:
            self._idle.dismiss(route)
        while connection := self._idle.take(route):
            if connection.is_usable:
                self._count("reused")
                return connection
            connection.abort()
        return None

    async def _opened(self, route: Route, clock: Clock) -> Connection:
        if self._closed:
            raise Broken("We are shutting down")
        self._count("opened")
        connection = await connect(route, clock, self._verifying)
        if connection.is_open:
            self._open.add(connection)
            connection.when_gone = self._gone
        return connection

    def _may_rest(self, route: Route, connection: Connection) -> bool:
        has_room = self._idle.has_room(route) and not self._closed
        return has_room and connection.is_usable and connection.mails < self._bounds.mails

    def _gone(self, connection: Connection) -> None:
        self._idle.forget(connection)
        self._open.discard(connection)
        if not self._open:
            self._all_gone.set()
