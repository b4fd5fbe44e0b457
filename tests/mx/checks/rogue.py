"""A name server on a real UDP and TCP port that replies as a test says: wrongly, late, or not at all."""

import asyncio
import struct
from collections.abc import Callable
from types import TracebackType
from typing import cast

import dns.flags
import dns.message
import dns.rrset

Behaviour = Callable[[dns.message.Message, str], list[bytes]]
"""The question and "udp" or "tcp" → what is sent back, message by message."""


class Rogue(asyncio.DatagramProtocol):
    """Serves on a free port of 127.0.0.1 while entered; `asked` holds the questions as "name TYPE transport"."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.asked: list[str] = []
        self.was_asked = asyncio.Event()

    @property
    def address(self) -> str:
        """Where it listens, as "host:port"."""
        return f"127.0.0.1:{self._port}"

    async def __aenter__(self) -> "Rogue":
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._over_tcp, "127.0.0.1", 0)
        self._port = int(self._tcp.sockets[0].getsockname()[1])
        self._udp, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", self._port))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._udp.close()
        self._tcp.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Reply as told."""
        for reply in self._replies(data, "udp"):
            cast(asyncio.DatagramTransport, self._udp).sendto(reply, addr)

    async def _over_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        for reply in self._replies(await reader.readexactly(size), "tcp"):
            writer.write(struct.pack("!H", len(reply)) + reply)
        writer.close()

    def _replies(self, data: bytes, transport: str) -> list[bytes]:
        query = dns.message.from_wire(data)
        asked = query.question[0]
        self.asked.append(f"{asked.name} {dns.rdatatype.to_text(asked.rdtype)} {transport}")
        self.was_asked.set()
        return self.behaviour(query, transport)


def right(query: dns.message.Message, *records: str, rcode: int = 0, ttl: int = 60) -> dns.message.Message:
    """The proper reply with these values for the question's name and type."""
    reply = dns.message.make_response(query)
    reply.set_rcode(rcode)  # type: ignore[arg-type]
    if records:
        asked = query.question[0]
        reply.answer.append(dns.rrset.from_text_list(asked.name, ttl, asked.rdclass, asked.rdtype, list(records)))
    return reply


def answers(*records: str, rcode: int = 0, ttl: int = 60) -> Behaviour:
    """A server that always gives these values."""
    return lambda query, transport: [right(query, *records, rcode=rcode, ttl=ttl).to_wire()]


def silent(query: dns.message.Message, transport: str) -> list[bytes]:
    """Says nothing."""
    return []


def truncated(query: dns.message.Message, transport: str) -> list[bytes]:
    """Answers over TCP only."""
    if transport == "tcp":
        return [right(query, "192.0.2.1").to_wire()]
    reply = right(query)
    reply.flags |= dns.flags.TC
    return [reply.to_wire()]


def wrong_id(query: dns.message.Message, transport: str) -> list[bytes]:
    """A forged answer before the right one."""
    forged = right(query, "203.0.113.66")
    forged.id = (query.id + 1) % 65536
    return [forged.to_wire(), right(query, "192.0.2.1").to_wire()]


def wrong_question(query: dns.message.Message, transport: str) -> list[bytes]:
    """The answer to another question, then the right one."""
    other = dns.message.make_query("other.test", "A", id=query.id)
    return [right(other, "203.0.113.66").to_wire(), right(query, "192.0.2.1").to_wire()]


def rubbish(query: dns.message.Message, transport: str) -> list[bytes]:
    """Noise, an empty datagram, and a header with counts that lie; never an answer."""
    head = query.to_wire()[:2]
    return [b"\xff" * 40, b"", head + b"\x81\x80\xff\xff\xff\xff\xff\xff\xff\xff", head]
