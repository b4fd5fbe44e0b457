"""The PROXY header that a load balancer puts before a connection, versions 1 and 2. Pure: bytes in, the client out.

Source: The PROXY protocol, sections 2.1 and 2.2. Only listed peers are asked for it, and they must
send it: guessing would let any client choose its own address.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

V1_BYTES = 107
"""Longest header of version 1, its CRLF included."""
V2_BYTES = 16 + 2048
"""Longest header of version 2 taken: addresses and some hundred bytes of extensions; the field could say 65,535."""

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LOCAL, _PROXIED = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21


class BadProxy(ValueError):
    """What came is no PROXY header."""


@dataclass(frozen=True, slots=True)
class Proxied:
    """A header that was read: its length, and the client; "" when the proxy speaks for itself or does not know."""

    size: int
    client_ip: str = ""
    client_port: int = 0


def is_listed(networks: Iterable[str], peer_ip: str) -> bool:
    """Whether the peer is one of the proxies. Raises ValueError for a network that is none."""
    address = ip_address(peer_ip)
    return any(address in network for network in _parsed(tuple(networks)))


@lru_cache(maxsize=16)
def _parsed(networks: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    return [ip_network(network) for network in networks]


def read(held: bytes) -> Proxied | None:
    """The header at the start of what came, None while it is not whole. Raises BadProxy."""
    if SIGNATURE.startswith(held[: len(SIGNATURE)]):
        return _version_2(held) if len(held) >= 16 else None
    return _version_1(held)


def _version_1(held: bytes) -> Proxied | None:
    end = held.find(b"\r\n", 0, V1_BYTES)
    if not held.startswith(b"PROXY "[: len(held)]) or (end < 0 and len(held) >= V1_BYTES):
        raise BadProxy("no PROXY header")
    if end < 0:
        return None
    words = held[:end].split(b" ")
    if words[1:2] == [b"UNKNOWN"]:
        return Proxied(end + 2)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise BadProxy("malformed PROXY header")
    kind = IPv4Address if words[1] == b"TCP4" else IPv6Address
    try:
        client, _ = (str(kind(word.decode("ascii"))) for word in words[2:4])
        port, _ = (_port(word) for word in words[4:])
    except (AddressValueError, UnicodeDecodeError) as error:
        raise BadProxy("malformed address in the PROXY header") from error
    return Proxied(end + 2, client, port)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or int(word) > 65535:
        raise BadProxy("malformed port in the PROXY header")
    return int(word)


def _version_2(held: bytes) -> Proxied | None:
    command, family, length = struct.unpack_from("!BBH", held, len(SIGNATURE))
    size = len(SIGNATURE) + 4 + length
    if command not in (_LOCAL, _PROXIED) or size > V2_BYTES:
        raise BadProxy("malformed PROXY header")
    if len(held) < size:
        return None
    if command == _LOCAL:
        return Proxied(size)
    at = len(SIGNATURE) + 4
    if family == _TCP4 and length >= 12:
        return Proxied(size, str(IPv4Address(held[at : at + 4])), *struct.unpack_from("!H", held, at + 8))
    if family == _TCP6 and length >= 36:
        return Proxied(size, str(IPv6Address(held[at : at + 16])), *struct.unpack_from("!H", held, at + 32))
    if family in (_TCP4, _TCP6):
        raise BadProxy("the PROXY header is shorter than its addresses")
    return Proxied(size)
