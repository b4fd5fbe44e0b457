"""Is the sender, or the client, on an allow or deny list?

Entries are kept for a domain, for an account (all of a customer's domains), and for the system. An entry names an
address, a domain with its subdomains, or a network of clients. One entry decides, by the precedence below; allow lets
the mail past every filter that can be passed, deny refuses it. A mail without a sender (a bounce) is matched by
networks alone. An entry that is for authenticated mail only counts when SPF passed for the sender's own domain. The
filter is on unless it is turned off, for an entry that does nothing would be a trap; without entries it does nothing.
Where a list is not on the node yet, it is unsure and the sender has to come again: a missing list lets no denied sender
in, and refuses no allowed one. The peer hears `550 5.7.1 Sender or client is not accepted`.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mx.filter import PASS, Filter, FilterSettings, Lists, Mode, Seen, Stage, Tools, Verdict, allow, refuse

Layer = Literal["domain", "account", "system"]
Names = Literal["address", "network", "domain"]

LAYERS: tuple[Layer, ...] = ("domain", "account", "system")
PRECEDENCE: tuple[tuple[Names, str], ...] = (
    ("address", "the sender's exact address"),
    ("network", "the client's network; of several the smallest. A client cannot be forged, a sender can"),
    ("domain", "the sender's domain, before the domains above it"),
)
"""What an entry names, the more specific first. At the same place the domain's entry comes before the account's, and
that before the system's; a layer has at most one entry for one match, so nothing is left to decide."""


class Settings(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a domain can choose besides its entries."""

    mode: Annotated[
        Mode,
        Meta(description="Off, on, or shadow: judged and recorded, never acted on.", extra={"label": "Mode"}),
    ] = "on"


class Found(msgspec.Struct, frozen=True):
    """One entry that names the sender or the client."""

    layer: Layer
    names: Names
    match: str
    kind: Literal["allow", "deny"]
    authenticated_only: bool = False
    id: str = ""


class Facts(msgspec.Struct, frozen=True):
    """Every entry that matches, and what is known of the sender; `spf` is "" when no entry asked for it."""

    found: tuple[Found, ...] = ()
    spf: str = ""
    is_authenticated: bool = False


async def look(seen: Seen, settings: Settings, tools: Tools) -> Facts:
    """The entries that match, looked up by exact key. Raises what the lists raise while a shard is not here."""
    found: list[Found] = []
    for layer in LAYERS:
        if tools.lists.is_empty(layer):
            continue
        found += _entries(tools.lists, layer, candidates(seen.sender, seen.client_ip))
        await asyncio.sleep(0)  # long lists cost some 30 µs a key, and IPv6 has 129 networks
    if not any(one.authenticated_only for one in found):
        return Facts(tuple(found))
    spf = await tools.facts("spf")
    domain = seen.sender.rpartition("@")[2]
    is_own = spf is not None and (spf.result, spf.identity, spf.domain) == ("pass", "mailfrom", domain)
    return Facts(tuple(found), spf.result if spf else "not known", is_own)


def judge(facts: Facts, settings: Settings) -> Verdict:
    """Allow or deny by the entry that decides."""
    one = deciding(facts.found, is_authenticated=facts.is_authenticated)
    if one is None:
        return PASS
    evidence: dict[str, Any] = {"entry": one.id, "match": one.match, "layer": one.layer, "spf": facts.spf}
    if one.kind == "allow":
        return allow(f"{one.match} is allowed by the {one.layer}'s list", **evidence)
    return refuse(
        f"{one.match} is denied by the {one.layer}'s list", text="Sender or client is not accepted", **evidence
    )


def deciding(found: Sequence[Found], *, is_authenticated: bool) -> Found | None:
    """The entry that decides, by `PRECEDENCE` and `LAYERS`; None when none counts.

    Pure; the order of `found` does not matter.
    """
    counting = [one for one in found if is_authenticated or not one.authenticated_only]
    return min(counting, key=_rank, default=None)


def candidates(sender: str, client_ip: str) -> list[tuple[Names, str]]:
    """Every key that an entry for this mail could have, in the one spelling in which lists keep them."""
    local_part, _, domain = sender.lower().rpartition("@")
    keys: list[tuple[Names, str]] = []
    if domain:
        keys.append(("address", f"{local_part}@{domain}"))
        labels = domain.split(".")
        keys += [("domain", ".".join(labels[start:])) for start in range(len(labels) - 1)]
    return keys + [("network", network) for network in _networks(client_ip)]


def _entries(lists: Lists, layer: Layer, keys: Sequence[tuple[Names, str]]) -> list[Found]:
    return [
        Found(layer, names, key, entry.kind, entry.authenticated_only, entry.id)
        for names, key in keys
        if (entry := lists.entry(layer, key)) is not None
    ]


def _rank(one: Found) -> tuple[int, int, int]:
    place = next(place for place, (names, _) in enumerate(PRECEDENCE) if names == one.names)
    return place, -_narrowness(one), LAYERS.index(one.layer)


def _narrowness(one: Found) -> int:
    """How narrow among its own kind: bits of a network's prefix, labels of a domain."""
    return int(one.match.rpartition("/")[2]) if one.names == "network" else one.match.count(".")


@lru_cache(maxsize=4096)
def _networks(client_ip: str) -> tuple[str, ...]:
    """Every network that holds the client, smallest first; in C where that spells as `ipaddress` does, 20 × faster."""
    address = ipaddress.ip_address(client_ip.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    length, whole = address.max_prefixlen, int(address)
    family = socket.AF_INET if length == 32 else socket.AF_INET6
    spelled = []
    for bits in range(length, -1, -1):
        first = whole >> (length - bits) << (length - bits)
        if family == socket.AF_INET6 and first < 1 << 48:  # the C library writes these with an IPv4 address in them
            spelled.append(f"{ipaddress.IPv6Address(first)}/{bits}")
        else:
            spelled.append(f"{socket.inet_ntop(family, first.to_bytes(length // 8, 'big'))}/{bits}")
    return tuple(spelled)


FILTER = Filter(
    "sender_list",
    "Is the sender or the client allowed or denied?",
    Settings,
    stage=Stage.MAIL,
    look=look,
    judge=judge,
    when_unsure="defer",
)
