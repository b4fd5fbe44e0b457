"""Is the client on a block list?

Lists in DNS (RFC 5782) are asked for the client's address, all at once: an answer within 127.0.0.0/8 means listed,
and which one says why. Each zone has its own act. What cannot be an answer of a working list does not count: anything
outside 127.0.0.0/8 (an expired domain that now answers everything). An answer within 127.255.255.0/24 is how lists
say that they do not talk to our resolver; that zone is then unsure, as one that does not answer is. The peer hears
`550 5.7.1 Client address … is listed by ZONE`.
"""

import asyncio
import ipaddress
from typing import Annotated

import msgspec
from msgspec import Meta

from mx.filter import Action, BadSetting, DnsUnsure, Filter, FilterSettings, Resolver, Seen, Stage, Tools, Verdict
from mx.filters.acts import AnyAct, Finding, verdict

LISTED = ipaddress.ip_network("127.0.0.0/8")
"""RFC 5782 section 2.1."""
REFUSED = ipaddress.ip_network("127.255.255.0/24")
"""Spamhaus and others: the query was not answered, because of who asked."""
REASON_CHARS = 200
"""Of a list's own text (TXT) that are kept."""


class Zone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One list."""

    zone: Annotated[
        str,
        Meta(
            max_length=190,  # beside an IPv6 address reversed, within the 253 of a name
            pattern=r"^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})+(?![\s\S])",
            description="The list's name in DNS.",
        ),
    ]
    action: Annotated[AnyAct, Meta(description="What to do with mail of a listed client.")] = "refuse"
    points: Annotated[float, Meta(ge=0, le=100, description="Points when it scores.")] = 5.0
    codes: Annotated[
        tuple[str, ...],
        Meta(
            max_length=32,
            description="Answers that count: addresses, ranges (127.0.0.2-127.0.0.11) or networks; none: all.",
        ),
    ] = ()

    def __post_init__(self) -> None:
        for number, code in enumerate(self.codes):
            try:
                _range(code)
            except ValueError as error:
                raise BadSetting(f"codes[{number}]", f"{error}; write 127.0.0.2 or 127.0.0.2-127.0.0.11") from error

    def counts(self, answer: str) -> bool:
        """Whether an answer means listed."""
        address = ipaddress.IPv4Address(answer)
        if address not in LISTED or address in REFUSED:
            return False
        return not self.codes or any(low <= address <= high for low, high in map(_range, self.codes))


class Settings(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a domain can choose."""

    zones: Annotated[
        tuple[Zone, ...],
        Meta(
            max_length=10,
            description='The lists to ask, as [{"zone": "bl.example.org", "action": "refuse"}].',
            extra={"label": "Lists"},
        ),
    ] = ()


class Answer(msgspec.Struct, frozen=True):
    """What one list said; `failed` is "" or why it said nothing."""

    zone: str
    addresses: tuple[str, ...] = ()
    reason: str = ""
    failed: str = ""


class Facts(msgspec.Struct, frozen=True):
    """What the lists said of the client."""

    client_ip: str
    answers: tuple[Answer, ...] = ()


async def look(seen: Seen, settings: Settings, tools: Tools) -> Facts:
    """What the lists say of the client; all are asked at once."""
    name = reversed_name(seen.client_ip)
    answers = await asyncio.gather(*(_ask(tools.resolver, name, zone) for zone in settings.zones))
    return Facts(seen.client_ip, tuple(answers))


def judge(facts: Facts, settings: Settings) -> Verdict:
    """The strongest act over the lists that name the client; unsure when none does and one did not answer."""
    by_zone = {answer.zone: answer for answer in facts.answers}
    found = [_finding(zone, by_zone[zone.zone], facts.client_ip) for zone in settings.zones if _lists(zone, by_zone)]
    failed = {answer.zone: answer.failed for answer in facts.answers if answer.failed}
    if not found and failed:
        reason = f"No answer from {', '.join(failed)}"
        return Verdict(Action.UNSURE, reason, evidence={"client_ip": facts.client_ip, "failed": failed})
    listed = {
        answer.zone: f"{', '.join(answer.addresses)} {answer.reason}".strip()
        for answer in facts.answers
        if answer.addresses
    }
    return verdict(found, **({"client_ip": facts.client_ip, "listed": listed} if listed else {}))


def reversed_name(client_ip: str) -> str:
    """The client's address as a list has it: octets or nibbles, last one first (RFC 5782 sections 2.1 and 2.4)."""
    address = ipaddress.ip_address(client_ip.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


async def _ask(resolver: Resolver, name: str, zone: Zone) -> Answer:
    try:
        addresses = await resolver.a(f"{name}.{zone.zone}")
    except DnsUnsure as error:
        return Answer(zone.zone, failed=str(error)[:REASON_CHARS] or "no answer")
    if any(ipaddress.ip_address(each) in REFUSED for each in addresses):
        return Answer(zone.zone, failed=f"the list does not answer our resolver ({addresses[0]})")
    if not any(map(zone.counts, addresses)):
        return Answer(zone.zone, addresses)
    return Answer(zone.zone, addresses, await _reason(resolver, f"{name}.{zone.zone}"))


async def _reason(resolver: Resolver, name: str) -> str:
    try:
        texts = await resolver.txt(name)
    except DnsUnsure:
        return ""  # listed all the same; the text is a courtesy
    return " ".join(text.decode("utf-8", "replace") for text in texts)[:REASON_CHARS]


def _lists(zone: Zone, answers: dict[str, Answer]) -> bool:
    return zone.zone in answers and any(map(zone.counts, answers[zone.zone].addresses))


def _finding(zone: Zone, answer: Answer, client_ip: str) -> Finding:
    said = f": {answer.reason}" if answer.reason else ""
    reason = f"The client {client_ip} is listed by {zone.zone} ({', '.join(answer.addresses)}){said}"
    return Finding(zone.action, reason, f"Client address {client_ip} is listed by {zone.zone}", zone.points)


def _range(code: str) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]:
    """First and last address of a code. Raises ValueError."""
    first, dash, last = code.partition("-")
    if dash:
        low, high = ipaddress.IPv4Address(first.strip()), ipaddress.IPv4Address(last.strip())
    else:
        network = ipaddress.IPv4Network(first.strip())
        low, high = network[0], network[-1]
    if low > high or low not in LISTED or high not in LISTED:
        raise ValueError(f"{code} is no range of answers within 127.0.0.0/8")
    return low, high


FILTER = Filter(
    "dnsbl",
    "Is the client on a block list?",
    Settings,
    stage=Stage.CONNECT,
    look=look,
    judge=judge,
)
