"""Does the mail go round in circles?

Every server that passes a mail on puts a Received field before it (RFC 5321 section 4.4), so a mail that comes again
and again shows it: by very many of these fields, by many that name this node, or by one Delivered-To address that
appears repeatedly. RFC 5321 section 6.3 asks for at least 100 fields before a loop is assumed; real ways stay below
20, and 50 is what most servers use, so that is the default and 100 can be chosen. No allow entry lets a loop go on,
and the filter is on unless it is turned off. The peer hears `554 5.4.6 Mail loop`.
"""

import re
from collections import Counter
from typing import Annotated

import msgspec
from msgspec import Meta

from mx import headers
from mx.filter import PASS, Filter, FilterSettings, Mode, Seen, Tools, Verdict, refuse

VALUE_BYTES = 2000
"""Of one field that are looked at."""
_BY = re.compile(rb"\bby\s+([A-Za-z0-9.-]{1,255})", re.IGNORECASE)


class Settings(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a domain can choose."""

    mode: Annotated[
        Mode,
        Meta(description="Off, on, or shadow: judged and recorded, never acted on.", extra={"label": "Mode"}),
    ] = "on"
    max_received: Annotated[
        int,
        Meta(ge=20, le=200, description="More Received fields than this are a loop.", extra={"label": "Most hops"}),
    ] = 50
    max_own: Annotated[
        int,
        Meta(
            ge=1,
            le=50,
            description="More passages through the same node than this are a loop.",
            extra={"label": "Most passages through a node"},
        ),
    ] = 5
    max_delivered: Annotated[
        int,
        Meta(
            ge=1,
            le=50,
            description="More Delivered-To fields with the same address than this are a loop.",
            extra={"label": "Most deliveries to one address"},
        ),
    ] = 3


class Facts(msgspec.Struct, frozen=True):
    """How often the mail was where."""

    received: int = 0
    own: int = 0
    delivered: int = 0
    """Of the address that was delivered to most often."""


async def look(seen: Seen, settings: Settings, tools: Tools) -> Facts:
    """Counts of the trace fields; read from the message as it came, since a loop must be seen in any message."""
    return count(seen.raw, seen.hostname)


def count(raw: bytes, hostname: str) -> Facts:
    """Counts of the trace fields; `hostname` is ours."""
    received, own, delivered = 0, 0, Counter[bytes]()
    for field in headers.fields(raw):
        value = raw[field.value_start : min(field.end, field.value_start + VALUE_BYTES)]
        if field.name == b"received":
            received += 1
            by = _BY.search(value)
            own += by is not None and by[1].lower() == hostname.lower().encode()
        elif field.name == b"delivered-to":
            delivered[value.strip().lower()] += 1
    return Facts(received, own, max(delivered.values(), default=0))


def judge(facts: Facts, settings: Settings) -> Verdict:
    """A refusal when any count is above its limit."""
    for what, counted, limit in (
        ("Received fields", facts.received, settings.max_received),
        ("passages through this node", facts.own, settings.max_own),
        ("deliveries to one address", facts.delivered, settings.max_delivered),
    ):
        if counted > limit:
            reason = f"The mail goes in circles: {counted} {what}, more than {limit}"
            return refuse(reason, text="Mail loop", code=554, enhanced="5.4.6", **msgspec.structs.asdict(facts))
    return PASS


FILTER = Filter("loop", "Does it go in circles?", Settings, look=look, judge=judge, bypassable=False, raw_only=True)
