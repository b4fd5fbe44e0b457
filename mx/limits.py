"""Limits on connections, of all clients and per client network: open ones, new ones a second, errors. Pure.

A network is one IPv4 address or one IPv6 /64. Each worker counts for itself; time is passed in.
"""

from dataclasses import dataclass
from ipaddress import ip_address

from mx.replies import TOO_BUSY, TOO_FAST, TOO_MANY_CONNECTIONS, Reply, banned
from syncd.config import SmtpLimits

NETWORKS = 100_000
"""Networks remembered; beyond, those without open connections and bans are forgotten."""
CROWDED = 0.75
"""From this share of all connections on, nobody gets more who has `FAIR_SHARE` of them: the rest is for the others."""
FAIR_SHARE = 0.1


_DEFAULTS = SmtpLimits()


class Bucket:
    """A rate: `per_s` at once and `per_s` more each second."""

    __slots__ = ("_left", "_per_s", "_refilled")

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s, self._left, self._refilled = per_s, float(per_s), now

    def has_one(self, now: float) -> bool:
        """Whether one more is within the rate now."""
        self._left = min(self._per_s, self._left + (now - self._refilled) * self._per_s)
        self._refilled = now
        return self._left >= 1

    def take(self) -> None:
        """One was used."""
        self._left -= 1


@dataclass(slots=True)
class _Network:
    arrivals: Bucket
    open: int = 0
    errors: int = 0
    errors_since: float = 0.0
    banned_until: float = 0.0


def plain_ip(client_ip: str) -> str:
    """An address as it is meant: without a zone, and IPv4 where a socket of both families maps it into IPv6."""
    if ":" not in client_ip:
        return client_ip
    address = ip_address(client_ip.partition("%")[0])
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)


def network_of(client_ip: str) -> str:
    """The client network of an address as `plain_ip` gives it."""
    if ":" not in client_ip:
        return client_ip
    return ":".join(ip_address(client_ip).exploded.split(":")[:4]) + "::/64"


class Limits:
    """What the clients of one worker have open and have done lately."""

    def __init__(self, limits: SmtpLimits = _DEFAULTS) -> None:
        self._limits = limits
        self._networks: dict[str, _Network] = {}
        self._arrivals: Bucket | None = None
        self._open = 0

    def admit(self, network: str, now: float) -> Reply | None:
        """Count a new connection in, or the 421 that refuses it (and then do not call `leave`)."""
        one = self._network(network, now)
        self._arrivals = self._arrivals or Bucket(self._limits.new_per_s, now)
        refusal = self._refusal(network, one, now)
        if refusal is None:
            one.arrivals.take()
            self._arrivals.take()
            one.open += 1
            self._open += 1
        return refusal

    def _refusal(self, network: str, one: _Network, now: float) -> Reply | None:
        if one.banned_until > now:
            return banned(network, round(one.banned_until - now) or 1)
        if not one.arrivals.has_one(now):
            return TOO_FAST
        if one.open >= self._limits.connections_per_network:
            return TOO_MANY_CONNECTIONS
        if self._arrivals and not self._arrivals.has_one(now):
            return TOO_BUSY
        return self._crowded(one)

    def _crowded(self, one: _Network) -> Reply | None:
        most = self._limits.connections
        if self._open >= most:
            return TOO_BUSY
        if self._open >= CROWDED * most and one.open >= FAIR_SHARE * most:
            return TOO_MANY_CONNECTIONS
        return None

    def leave(self, network: str) -> None:
        """A connection that was admitted has ended."""
        self._open -= 1
        if network in self._networks:
            self._networks[network].open -= 1

    def error(self, network: str, now: float) -> None:
        """Count a protocol error; too many within a minute ban the network for `ban_s`."""
        one = self._network(network, now)
        if now - one.errors_since > 60:
            one.errors, one.errors_since = 0, now
        one.errors += 1
        if one.errors > self._limits.errors_per_minute:
            one.banned_until, one.errors = now + self._limits.ban_s, 0

    def _network(self, network: str, now: float) -> _Network:
        if network not in self._networks:
            if len(self._networks) >= NETWORKS:
                self._networks = {
                    name: one for name, one in self._networks.items() if one.open or one.banned_until > now
                }
            self._networks[network] = _Network(Bucket(self._limits.new_per_s_per_network, now), errors_since=now)
        return self._networks[network]
