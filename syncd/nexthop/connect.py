"""Opens a connection to a next hop: its addresses, TCP, greeting, EHLO, TLS as the mode demands."""

import asyncio
import socket
import ssl
from contextlib import suppress
from functools import lru_cache
from itertools import chain, zip_longest
from typing import NamedTuple

from syncd.layers import NextHop, TlsMode
from syncd.nexthop.answer import Refused
from syncd.nexthop.connection import Broken, Connection, TimedOut, TlsFailed
from syncd.nexthop.opening import Opening, Stage
from syncd.nexthop.reply import Garbled
from syncd.nexthop.timeouts import Clock

ADDRESSES = 8
"""Addresses of one hop that are tried; more would leave none of them the time to answer."""

Address = tuple[int, str]
"""Family and numeric host."""


class Route(NamedTuple):
    """Where a connection leads, how it is secured, and who we say we are: mails of the same route may share one."""

    host: str
    port: int
    tls: TlsMode
    hostname: str
    """Our name in EHLO."""


def route_to(hop: NextHop, hostname: str) -> Route:
    """The route to a hop."""
    return Route(hop.host, hop.port, hop.tls, hostname)


async def connect(route: Route, clock: Clock, verifying: ssl.SSLContext | None = None) -> Connection:
    """A connection that can take a mail at once.

    `verifying` is the TLS context for mode "verified", the system's authorities by default.
    Opportunistic TLS that breaks is followed by a new connection in clear.
    Raises Refused when the hop will not have us or lacks what the mode demands, Broken when it
    cannot be reached or understood; nothing stays open then, nor when cancelled.
    """
    opening = Opening(route.hostname, route.tls)
    try:
        return await _open(route, opening, clock, verifying)
    except TlsFailed as error:
        if route.tls != "opportunistic":
            raise Refused(451, "4.7.5", str(error)) from error
    return await _open(route, Opening(route.hostname, route.tls, tls=False), clock, verifying)


async def _open(route: Route, opening: Opening, clock: Clock, verifying: ssl.SSLContext | None) -> Connection:
    connection = await _reach(route, clock)
    try:
        await _greet(connection, route, opening, clock, verifying)
    except BaseException:
        connection.abort()
        raise
    connection.offers = opening.offers
    return connection


async def _greet(
    connection: Connection, route: Route, opening: Opening, clock: Clock, verifying: ssl.SSLContext | None
) -> None:
    within_s = clock.connect_s()
    while opening.stage is not Stage.READY:
        if opening.stage is Stage.HANDSHAKE:
            await connection.secure(tls_context(route.tls, verifying), route.host, clock.command_s())
            connection.write(opening.secured())
        reply = await connection.reply(within_s)
        try:
            connection.write(opening.heard(reply))
        except Garbled as error:
            raise Broken(str(error)) from error
        within_s = clock.command_s()
    if connection.has_unread:
        raise Broken("The next hop says more than it was asked")


async def _reach(route: Route, clock: Clock) -> Connection:
    """TCP to the first address that answers; each gets its share of the time."""
    until = asyncio.get_running_loop().time() + clock.connect_s()
    addresses = await _addresses(route, until)
    why: Broken = Broken(f"{route.host} has no address")
    for position, (family, host) in enumerate(addresses):
        share_s = (until - asyncio.get_running_loop().time()) / (len(addresses) - position)
        try:
            return await _tcp(family, host, route.port, share_s)
        except Broken as error:
            why = error
    raise why


async def _addresses(route: Route, until: float) -> list[Address]:
    """Addresses as the system orders them (RFC 6724), the two families in turn: one that leads nowhere costs little."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError, ValueError):
            socket.inet_pton(family, route.host)
            return [(family, route.host)]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(until):
            found = await loop.getaddrinfo(route.host, route.port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise TimedOut(f"{route.host} is not resolved in time") from error
    except (OSError, ValueError) as error:  # ValueError: a label that is empty or too long, a NUL
        raise Broken(f"{route.host} is not resolved: {error}") from error
    known = list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))
    first = [one for one in known if one[0] == known[0][0]]
    second = [one for one in known if one[0] != known[0][0]]
    return [one for one in chain.from_iterable(zip_longest(first, second)) if one][:ADDRESSES]


async def _tcp(family: int, host: str, port: int, within_s: float) -> Connection:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(within_s):
            _, connection = await loop.create_connection(Connection, host, port, family=family)
    except TimeoutError as error:
        raise TimedOut(f"{host} does not answer in time") from error
    except OSError as error:
        raise Broken(f"{host} cannot be reached: {error.strerror or error}") from error
    return connection


def tls_context(mode: TlsMode, verifying: ssl.SSLContext | None = None) -> ssl.SSLContext:
    """Opportunistic and required TLS do not look at the certificate (RFC 7435); verified TLS does."""
    if mode == "verified":
        return verifying or _trusting_the_system()
    return _trusting_anybody()


@lru_cache(maxsize=1)
def _trusting_the_system() -> ssl.SSLContext:
    return ssl.create_default_context()


@lru_cache(maxsize=1)
def _trusting_anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
