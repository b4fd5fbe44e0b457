"""The one resolver of a node: cache, shared look-ups, deadline, breaker, over dnspython.

The servers asked are the node's own recursive ones; what they hand on was written by strangers. A
name that cannot be asked for cannot exist: (). A time-out, a failure code or rubbish is `DnsUnsure`.
CNAMEs are followed as far as the answer holds them, which for a recursive server is to the end.
"""

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from monitoring.metrics import mx as metrics
from mx.checks import dns_servers
from mx.checks.dns_cache import Answer, Cache, Key
from mx.checks.dns_servers import Server, State
from mx.filter import DnsUnsure

DEADLINE_S = 4.0
"""One look-up, all tries included; a filter's look has 5 s."""
TRY_S = 1.5
"""One server, one try."""
MAX_RECORDS = 100
"""Of one answer; SPF reads 10 hosts, and nobody needs more addresses of a name."""
MAX_REPLY_BYTES = 16 * 1024
"""A longer one is not read: 64 KB of records keep the event loop for a tenth of a second."""
MAX_IN_FLIGHT = 1024
"""Questions on their way at once: each holds a socket. Names whose own servers are silent hold one for seconds."""
EDNS_BYTES = 1232
"""No fragments (DNS flag day 2020); longer answers come over TCP."""
NO_SOA_TTL_S = 30
NAME_BYTES = 255
"""RFC 1035 section 2.3.4."""

_RESULTS = ("cache", "answer", "absent", "timeout", "breaker", "error")
_counted = {result: metrics.dns_queries.labels(result) for result in _RESULTS}
_from_cache = _counted["cache"]
_KINDS = {kind: dns.rdatatype.from_text(kind) for kind in ("A", "AAAA", "TXT", "MX", "PTR", "NS")}

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
        question = _question(key[1])
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

    async def _answer(self, key: Key, question: dns.name.Name) -> Answer:
        try:
            async with asyncio.timeout(DEADLINE_S), self._free:
                answer, result = await self._tried(key, question)
        except TimeoutError as error:
            _counted["timeout"].inc()
            raise DnsUnsure(f"{key[1]} {key[0]}: no answer within {DEADLINE_S:g} s") from error
        _counted[result].inc()
        if answer is None:
            raise DnsUnsure(f"{key[1]} {key[0]}: {_WHY[result]}")
        self._cache.put(key, answer, time.monotonic())
        return answer

    async def _tried(self, key: Key, question: dns.name.Name) -> tuple[Answer | None, str]:
        """The answer of the first server that gives one, else None and the worst that was met."""
        result = "breaker"
        for server in self._servers * 2:
            if not await self._is_alive(server):
                continue
            reply = await self._exchange(server, question, key[0])
            if reply is None:
                result = "timeout"
            elif (answer := _read(reply, key[0])) is None:
                result = "error"
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
        if await self._exchange(server, dns.name.root, "NS") is not None:
            return True
        server.probe_failed(time.monotonic())
        return False

    async def _exchange(self, server: Server, question: dns.name.Name, kind: str) -> dns.message.Message | None:
        """One question and its reply, None when there is none in time or it cannot be read."""
        query = dns.message.make_query(question, _KINDS[kind], use_edns=0, payload=EDNS_BYTES)
        try:
            # What does not answer this very question (id, port, name; rubbish) is passed over: it may be forged.
            reply = await dns.asyncquery.udp(
                *(query, server.host, TRY_S, server.port),
                ignore_unexpected=True,
                ignore_errors=True,
                raise_on_truncation=True,
            )
        except dns.message.Truncated:
            return await _over_tcp(server, query)
        except (OSError, EOFError, dns.exception.DNSException):
            server.failed()
            return None
        server.answered()
        return reply


async def _over_tcp(server: Server, query: dns.message.Message) -> dns.message.Message | None:
    """The reply that was too long for UDP; None as in `_exchange`. One beyond our bound becomes a failure."""
    wire = query.to_wire()
    try:
        async with asyncio.timeout(TRY_S):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            try:
                writer.write(len(wire).to_bytes(2, "big") + wire)
                size = int.from_bytes(await reader.readexactly(2), "big")
                reply = (
                    dns.message.from_wire(await reader.readexactly(size))
                    if size <= MAX_REPLY_BYTES
                    else _failure(query)
                )
            finally:
                writer.close()
    except (OSError, EOFError, dns.exception.DNSException):
        server.failed()
        return None
    server.answered()
    return reply if query.is_response(reply) else None


def _failure(query: dns.message.Message) -> dns.message.Message:
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.SERVFAIL)
    return reply


_WHY = {
    "timeout": "no name server answered in time",
    "error": "the name servers failed",
    "breaker": "no name server answers at present",
}


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def _question(name: str) -> dns.name.Name | None:
    """The name as DNS has it, byte for byte; None when no such name can exist.

    A name with other than ASCII characters has to come in its A-label form (RFC 5890).
    """
    if not name.isascii() or len(name) > NAME_BYTES:
        return None
    try:
        return dns.name.Name([*name.encode().split(b"."), b""])
    except dns.exception.DNSException:
        return None  # an empty label, or one or a name that is too long


def _read(reply: dns.message.Message, kind: str) -> Answer | None:
    """The values of a reply; None when it reports a failure, contradicts itself or has CNAMEs in a ring."""
    if reply.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return None
    try:
        chain = reply.resolve_chaining()  # type: ignore[attr-defined]
    except dns.exception.DNSException:
        return None
    if chain.answer is None:
        has_soa = any(records.rdtype == dns.rdatatype.SOA for records in reply.authority)
        return Answer((), chain.minimum_ttl if has_soa else NO_SOA_TTL_S)
    values = list(_values(list(chain.answer)[:MAX_RECORDS], kind))
    return Answer(tuple(sorted(values) if kind == "MX" else values), chain.minimum_ttl)


def _values(records: list[Any], kind: str) -> Iterator[Any]:
    for record in records:
        if kind in ("A", "AAAA"):
            yield record.address
        elif kind == "TXT":
            yield b"".join(record.strings)
        elif (host := _host(record.exchange if kind == "MX" else record.target)) is not None:
            yield (record.preference, host) if kind == "MX" else host


def _host(name: dns.name.Name) -> str | None:
    """A name as text, None for one that text cannot hold without escapes: no host is called so."""
    labels = name.labels[:-1]
    if any(not label.isascii() or b"." in label or any(byte < 33 or byte == 127 for byte in label) for label in labels):
        return None
    return b".".join(labels).decode()
