"""Connections that nobody uses at the moment: the newest is used first, the old ones take their leave."""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from syncd.nexthop.connect import Route
from syncd.nexthop.connection import Connection


class _Resting(NamedTuple):
    route: Route
    until: float
    """On the loop's clock."""


class Idle:
    """Idle connections by route, at most `per_route` each and `in_all`; each for `seconds`."""

    def __init__(self, *, per_route: int, in_all: int, seconds: float) -> None:
        self._per_route, self._in_all, self._seconds = per_route, in_all, seconds
        self._resting: dict[Connection, _Resting] = {}  # the one that rests longest comes first
        self._by_route: dict[Route, list[Connection]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._resting)

    def has_room(self, route: Route) -> bool:
        """Whether one more may rest."""
        return len(self._resting) < self._in_all and len(self._by_route.get(route, ())) < self._per_route

    def add(self, route: Route, connection: Connection) -> None:
        """Let it rest."""
        connection.rest()
        loop = asyncio.get_running_loop()
        self._resting[connection] = _Resting(route, loop.time() + self._seconds)
        self._by_route.setdefault(route, []).append(connection)
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._dismiss_old)

    def take(self, route: Route) -> Connection | None:
        """The one that rested least, awake; None when there is none."""
        connections = self._by_route.get(route)
        if not connections:
            return None
        connection = connections[-1]
        self.forget(connection)
        connection.wake()
        return connection

    def forget(self, connection: Connection) -> None:
        """It is gone, or used again; harmless when it does not rest here."""
        resting = self._resting.pop(connection, None)
        if resting is None:
            return
        connections = self._by_route[resting.route]
        connections.remove(connection)
        if not connections:
            del self._by_route[resting.route]

    def dismiss(self, route: Route | None = None) -> None:
        """Send all of a route away, or all."""
        for connection in list(self._by_route.get(route, ()) if route else self._resting):
            self.forget(connection)
            connection.leave()

    def _dismiss_old(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        for connection in list(self._old(loop.time())):
            self.forget(connection)
            connection.leave()
        if self._resting:
            oldest = next(iter(self._resting.values()))
            self._timer = loop.call_at(oldest.until, self._dismiss_old)

    def _old(self, now: float) -> Iterator[Connection]:
        for connection, resting in self._resting.items():
            if resting.until > now:
                return
            yield connection

    def close(self) -> None:
        """Send all away and stop looking at the clock."""
        self.dismiss()
        if self._timer:
            self._timer.cancel()
            self._timer = None
