"""Is the name that the client gives itself plausible?

RFC 5321 section 4.1.1.1 asks for the client's full name, or its address in brackets where it has no name. Section
4.1.4 forbids to refuse mail only because the name does not fit the address; what is checked here is whether the name
can be a client's at all, and each check has its own choice. The peer hears `550 5.5.4 Bad HELO name`.
"""

import ipaddress
import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mx.filter import Action, DnsUnsure, Filter, FilterSettings, Resolver, Seen, Stage, Tools, Verdict
from mx.filters.acts import Act, Finding, Points, verdict

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
"""Underscores are no part of host names (RFC 952), but many honest clients have them."""

Kind = Literal["name", "literal", "bare_address", "malformed"]


class Settings(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a domain can choose for each check."""

    ours: Annotated[Act, Meta(description="The client gives our own name as its.", extra={"label": "Our name"})] = (
        "refuse"
    )
    recipients: Annotated[
        Act,
        Meta(description="The client gives your domain as its name.", extra={"label": "The recipient's domain"}),
    ] = "off"
    malformed: Annotated[
        Act, Meta(description="It is neither a name nor an address.", extra={"label": "Malformed name"})
    ] = "score"
    bare_address: Annotated[
        Act, Meta(description="It is an address without brackets.", extra={"label": "Address without brackets"})
    ] = "score"
    wrong_literal: Annotated[
        Act, Meta(description="It is an address other than the client's.", extra={"label": "Another's address"})
    ] = "score"
    unqualified: Annotated[
        Act, Meta(description="It is a name without a dot.", extra={"label": "Name without a domain"})
    ] = "score"
    unknown: Annotated[
        Act, Meta(description="It is a name that has no address in DNS.", extra={"label": "Name unknown to DNS"})
    ] = "off"
    points: Points = 2.0


class Facts(msgspec.Struct, frozen=True):
    """What can be said of the name; `exists` is None when it was not asked, "unsure" when nobody knew."""

    name: str
    kind: Kind
    is_ours: bool = False
    is_recipients: bool = False
    is_clients: bool = False
    exists: bool | Literal["unsure"] | None = None


async def look(seen: Seen, settings: Settings, tools: Tools) -> Facts:
    """What can be said of the name; DNS is asked only when the domain wants to know."""
    facts = of(seen)
    if settings.unknown == "off" or facts.kind != "name" or "." not in facts.name:
        return facts
    return msgspec.structs.replace(facts, exists=await _exists(tools.resolver, facts.name))


def of(seen: Seen) -> Facts:
    """What the name itself says."""
    name = seen.helo.removesuffix(".").lower()
    kind, address = _kind(seen.helo)
    return Facts(
        name=name,
        kind=kind,
        is_ours=name == seen.hostname.lower(),
        is_recipients=name == seen.domain,
        is_clients=address is not None and address == _address(seen.client_ip),
    )


def judge(facts: Facts, settings: Settings) -> Verdict:
    """The strongest act over the checks; unsure when DNS did not know and nothing else was found."""
    shown = facts.name or "nothing"
    checks = (
        (facts.is_ours, settings.ours, f"The client calls itself by our name, {shown}"),
        (facts.is_recipients, settings.recipients, f"The client calls itself {shown}, which is your domain"),
        (facts.kind == "malformed", settings.malformed, f"“{shown}” is no host name"),
        (facts.kind == "bare_address", settings.bare_address, f"{shown} is an address without brackets"),
        (facts.kind == "literal" and not facts.is_clients, settings.wrong_literal, f"{shown} is not its address"),
        (facts.kind == "name" and "." not in facts.name, settings.unqualified, f"{shown} is no full host name"),
        (facts.exists is False, settings.unknown, f"{shown} has no address in DNS"),
    )
    found = [
        Finding(act, reason, "Bad HELO name", settings.points, enhanced="5.5.4") for yes, act, reason in checks if yes
    ]
    made = verdict(found, helo=facts.name)
    if made.action is Action.PASS and facts.exists == "unsure" and settings.unknown != "off":
        return Verdict(Action.UNSURE, f"DNS did not say whether {shown} exists", evidence={"helo": facts.name})
    return made


async def _exists(resolver: Resolver, name: str) -> bool | Literal["unsure"]:
    try:
        return bool(await resolver.a(name) or await resolver.aaaa(name))
    except DnsUnsure:
        return "unsure"


def _kind(helo: str) -> tuple[Kind, object]:
    """The kind of name, and the address it is, if it is one."""
    if address := _address(helo):
        return "bare_address", address
    if helo.startswith("[") and helo.endswith("]"):
        inner = helo[1:-1]
        address = _address(inner[5:] if inner[:5].lower() == "ipv6:" else inner)
        return ("literal", address) if address else ("malformed", None)
    fits = len(helo) <= 255 and _NAME.fullmatch(helo) and not helo.rstrip(".").rpartition(".")[2].isdigit()
    return ("name" if fits else "malformed"), None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address; one of IPv4 written as IPv6 is that of IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


FILTER = Filter("helo", "Is the client's name plausible?", Settings, stage=Stage.HELO, look=look, judge=judge)
