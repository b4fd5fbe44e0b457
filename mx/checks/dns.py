"""The one resolver of a node: cache, shared look-ups, deadline, breaker.

The servers asked are the node's own recursive ones; what they hand on was written by strangers. A
name that cannot be asked for cannot exist: (). A time-out, a failure code or rubbish is `DnsUnsure`.
CNAMEs are followed as far as the answer holds them, which for a recursive server is to the end.
"""

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from monitoring.metrics import mx as metrics
from mx.checks import dns_servers, dns_wire
from mx.checks.dns_cache import Answer, Cache, Key
from mx.checks.dns_servers import Server, State
from mx.checks.dns_wire import Question
from mx.filter import DnsUnsure

DEADLINE_S = 4.0
"""One look-up, all tries included; a filter's look has 5 s."""
TRY_S = 1.5
"""One server, one try."""
MAX_IN_FLIGHT = 1024
"""Questions on their way at once: each holds a socket. Names whose own servers are silent hold one for seconds."""

_RESULTS = ("cache", "answer", "absent", "timeout", "breaker", "error")
_counted = {result: metrics.dns_queries.labels(result) for result in _RESULTS}
_from_cache = _counted["cache"]
_WHY = {
    "timeout": "no name server answered in time",
    "error": "the name servers failed",
    "breaker": "no name server answers at present",
}

T = TypeVar("T")


class DnsResolver:
    """The `Resolver` of `mx.filter` over real name servers; one for a worker's whole life.

    `servers` are "address:port", asked in this order; raises ValueError for one that is not. Its
    look-ups are tasks of its own that end by their deadline: a caller that is cancelled stops nobody else.
    """

    def __init__(self, servers: tuple[str, ...]) -> None:
        self._servers = [dns_servers.parse(text) for text in servers]
        self._cache = Cache()
        self._flights: dict[Any, asyncio.Task[Any]] = {}
        self._free = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def a(self, name: str) -> tuple[str, ...]:
        """IPv4 addresses of a name."""
        return await self._look("A", name)

    async def aaaa(self, name: str) -> tuple[str, ...]:
        """IPv6 addresses of a name."""
        return await self._look("AAAA", name)

    async def txt(self, name: str) -> tuple[bytes, ...]:
        """TXT strings, each joined from its pieces."""
        return await self._look("TXT", name)

    async def mx(self, name: str) -> tuple[tuple[int, str], ...]:
        """(preference, host) pairs, sorted; the host of a null MX (RFC 7505) is ""."""
        return await self._look("MX", name)

    async def ptr(self, address: str) -> tuple[str, ...]:
        """Names of an address, without the final dot. Raises ValueError for what is no address."""
        return await self._look("PTR", ipaddress.ip_address(address.partition("%")[0]).reverse_pointer)

    def close(self) -> None:
        """End the look-ups on their way; their callers are cancelled."""
        for task in self._flights.values():
            task.cancel()

    async def _look(self, kind: str, name: str) -> tuple[Any, ...]:
        key = (kind, name.lower().removesuffix("."))
        known = self._cache.get(key, time.monotonic())
        if known is not None:
            _from_cache.inc()
            return known
        question = dns_wire.question(*key)
        if question is None:
            _counted["absent"].inc()
            return ()
        answer: Answer = await self._shared(key, lambda: self._answer(key, question))
        return answer.values

    async def _shared(self, key: Any, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, done once for all who ask for the same at the same time."""
        task = self._flights.get(key)
        if task is None:
            task = asyncio.create_task(_awaited(work), name=f"dns {key}")
            self._flights[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    def _landed(self, key: Any, task: asyncio.Task[Any]) -> None:
        del self._flights[key]
        if not task.cancelled():
            task.exception()  # read, so that a failure whose callers have all left is no noise

    async def _answer(self, key: Key, question: Question) -> Answer:
        try:
            async with asyncio.timeout(DEADLINE_S), self._free:
                answer, result = await self._tried(question)
        except TimeoutError as error:
            _counted["timeout"].inc()
            raise DnsUnsure(f"{key[1]} {key[0]}: no answer within {DEADLINE_S:g} s") from error
        _counted[result].inc()
        if answer is None:
            raise DnsUnsure(f"{key[1]} {key[0]}: {_WHY[result]}")
        self._cache.put(key, answer, time.monotonic())
        return answer

    async def _tried(self, question: Question) -> tuple[Answer | None, str]:
        """The answer of the first server that gives one, else None and the last that was met instead."""
        result = "breaker"
        for server in self._servers * 2:
            if not await self._is_alive(server):
                continue
            try:
                answer = await self._exchange(server, question)
            except dns_wire.Failure:
                result = "error"
            except dns_wire.Silence:
                result = "timeout"
            else:
                return answer, "answer" if answer.values else "absent"
        return None, result

    async def _is_alive(self, server: Server) -> bool:
        state = server.state(time.monotonic())
        if state is State.PROBE:
            return await self._shared(id(server), lambda: self._probe(server))
        return state is State.ASK

    async def _probe(self, server: Server) -> bool:
        """Whether a suspect server answers a question that no stranger chose."""
        try:
            await self._exchange(server, dns_wire.PROBE)
        except dns_wire.Failure:
            return True  # it lives, and need not know an answer
        except dns_wire.Silence:
            server.probe_failed(time.monotonic())
            return False
        return True

    async def _exchange(self, server: Server, question: Question) -> Answer:
        """One question to one server. Raises Silence and Failure."""
        try:
            answer = await dns_wire.ask(server.host, server.port, question, TRY_S)
        except dns_wire.Silence:
            server.failed()
            raise
        except dns_wire.Failure:
            server.answered()
            raise
        server.answered()
        return answer


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
