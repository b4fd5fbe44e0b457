"""Limits per client network: open connections, new ones a second, errors. Pure; time is passed in.

A network is one IPv4 address or one IPv6 /64. Each worker counts for itself.
"""

from dataclasses import dataclass
from ipaddress import ip_address

from mx.replies import TOO_FAST, TOO_MANY_CONNECTIONS, Reply, banned


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one client network may; far above any honest sender, so that only floods meet them."""

    connections: int = 12_000
    new_per_s: int = 500
    errors_per_minute: int = 600
    ban_s: int = 30
    """Never above 60."""
    networks: int = 100_000
    """Networks remembered; beyond, those without open connections are forgotten."""


@dataclass(slots=True)
class _Network:
    open: int = 0
    tokens: float = 0.0
    refilled: float = 0.0
    errors: int = 0
    errors_since: float = 0.0
    banned_until: float = 0.0


def network_of(client_ip: str) -> str:
    """The client network of an address."""
    address = ip_address(client_ip)
    if address.version == 6 and address.ipv4_mapped is None:
        return ":".join(address.exploded.split(":")[:4]) + "::/64"
    return client_ip


class Limits:
    """What the clients of one worker have open and have done lately."""

    def __init__(self, bounds: Bounds = Bounds()) -> None:
        self._bounds = bounds
        self._networks: dict[str, _Network] = {}

    def admit(self, network: str, now: float) -> Reply | None:
        """Count a new connection in, or the 421 that refuses it (and then do not call `leave`)."""
        one = self._network(network, now)
        if one.banned_until > now:
            return banned(network, round(one.banned_until - now) or 1)
        one.tokens = min(self._bounds.new_per_s, one.tokens + (now - one.refilled) * self._bounds.new_per_s)
        one.refilled = now
        if one.tokens < 1:
            return TOO_FAST
        if one.open >= self._bounds.connections:
            return TOO_MANY_CONNECTIONS
        one.tokens -= 1
        one.open += 1
        return None

    def leave(self, network: str) -> None:
        """A connection that was admitted has ended."""
        if network in self._networks:
            self._networks[network].open -= 1

    def error(self, network: str, now: float) -> None:
        """Count a protocol error; too many within a minute ban the network for `ban_s`."""
        one = self._network(network, now)
        if now - one.errors_since > 60:
            one.errors, one.errors_since = 0, now
        one.errors += 1
        if one.errors > self._bounds.errors_per_minute:
            one.banned_until, one.errors = now + self._bounds.ban_s, 0

    def _network(self, network: str, now: float) -> _Network:
        if network not in self._networks:
            if len(self._networks) >= self._bounds.networks:
                self._networks = {
                    name: one for name, one in self._networks.items() if one.open or one.banned_until > now
                }
            self._networks[network] = _Network(tokens=self._bounds.new_per_s, refilled=now, errors_since=now)
        return self._networks[network]

    def _forget_idle(self, now: float) -> None:
        self._networks = {name: one for name, one in self._networks.items() if one.open or one.banned_until > now}
