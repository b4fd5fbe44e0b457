"""One question to one name server over UDP, or TCP where it does not fit, and what its reply says.

The only file that knows dnspython. What does not answer the very question (id, port, name; rubbish) is
passed over: it may be forged.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from mx.checks.dns_cache import Answer

MAX_RECORDS = 100
"""Of one answer; SPF reads 10 hosts, and nobody needs more addresses of a name."""
MAX_REPLY_BYTES = 16 * 1024
"""A longer one is not read: 64 KB of records keep the event loop for a tenth of a second."""
EDNS_BYTES = 1232
"""No fragments (DNS flag day 2020); longer answers come over TCP."""
NO_SOA_TTL_S = 30
"""For an absence of which nobody says how long it is true (RFC 2308 section 5)."""
NAME_BYTES = 255
"""RFC 1035 section 2.3.4."""

_KINDS = {kind: dns.rdatatype.from_text(kind) for kind in ("A", "AAAA", "TXT", "MX", "PTR", "NS")}


class Silence(Exception):
    """No reply in time, or none that can be read."""


class Failure(Exception):
    """A reply that is no answer: a code of failure, a contradiction, more than we read."""


class Question(NamedTuple):
    """A name and a record type, as DNS has them."""

    name: dns.name.Name
    kind: str


PROBE = Question(dns.name.root, "NS")
"""What every name server can reply to."""


def question(kind: str, name: str) -> Question | None:
    """The question for a name, byte for byte; None when no such name can exist.

    A name with other than ASCII characters has to come in its A-label form (RFC 5890).
    """
    if not name.isascii() or len(name) > NAME_BYTES:
        return None
    try:
        return Question(dns.name.Name([*name.encode().split(b"."), b""]), kind)
    except dns.exception.DNSException:
        return None  # an empty label, or one or a name that is too long


async def ask(host: str, port: int, asked: Question, within_s: float) -> Answer:
    """The answer of one server; each of UDP and TCP may take `within_s`. Raises Silence and Failure."""
    query = dns.message.make_query(asked.name, _KINDS[asked.kind], use_edns=0, payload=EDNS_BYTES)
    try:
        reply = await dns.asyncquery.udp(
            *(query, host, within_s, port), ignore_unexpected=True, ignore_errors=True, raise_on_truncation=True
        )
    except dns.message.Truncated:
        reply = await _over_tcp(host, port, query, within_s)
    except (OSError, EOFError, dns.exception.DNSException) as error:
        raise Silence(str(error)) from error
    return _read(reply, asked.kind)


async def _over_tcp(host: str, port: int, query: dns.message.Message, within_s: float) -> dns.message.Message:
    wire = query.to_wire()
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(len(wire).to_bytes(2, "big") + wire)
                size = int.from_bytes(await reader.readexactly(2), "big")
                if size > MAX_REPLY_BYTES:
                    raise Failure(f"a reply of {size} bytes")
                reply = dns.message.from_wire(await reader.readexactly(size))
            finally:
                writer.close()
    except (OSError, EOFError, dns.exception.DNSException) as error:
        raise Silence(str(error)) from error
    if not query.is_response(reply):
        raise Silence("the reply to another question")
    return reply


def _read(reply: dns.message.Message, kind: str) -> Answer:
    """The values of a reply. Raises Failure for a code of failure, a contradiction, CNAMEs in a ring."""
    if reply.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise Failure(dns.rcode.to_text(reply.rcode()))
    try:
        chain = reply.resolve_chaining()  # type: ignore[attr-defined]
    except dns.exception.DNSException as error:
        raise Failure(str(error)) from error
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
