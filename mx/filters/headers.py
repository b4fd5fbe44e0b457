"""Does the mail have the header fields it must have, once and well-formed?

RFC 5322 section 3.6 asks for one From and one Date, recommends a Message-ID, and lets most other fields stand only
once. Mail programs obey; what is written to deceive often does not, because each reader shows another one of two
fields. Each check has its own choice. The peer hears `550 5.6.0 Bad message header`.
"""

import re
from collections import Counter
from email.utils import mktime_tz, parsedate_tz
from typing import Annotated

import msgspec
from msgspec import Meta

from mx import headers
from mx.filter import Filter, FilterSettings, Seen, Tools, Verdict
from mx.filters.acts import Act, Finding, Points, verdict

VALUE_BYTES = 2000
"""Of one field that are looked at."""
DATE_BYTES = 200
ONCE = ("sender", "reply-to", "to", "cc", "message-id", "in-reply-to", "references", "subject")
"""Fields that may stand only once (RFC 5322 section 3.6), besides From and Date, which have checks of their own."""
_ADDRESS = re.compile(rb"[^\s<>@,;:()]@[^\s<>@,;:()]")


class Settings(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a domain can choose for each check."""

    no_from: Annotated[Act, Meta(description="There is no From field.", extra={"label": "No sender"})] = "score"
    several_from: Annotated[
        Act, Meta(description="There are several From fields.", extra={"label": "Several senders"})
    ] = "refuse"
    from_without_address: Annotated[
        Act, Meta(description="The From field holds no address.", extra={"label": "Sender without an address"})
    ] = "score"
    no_date: Annotated[Act, Meta(description="There is no Date field.", extra={"label": "No date"})] = "score"
    bad_date: Annotated[Act, Meta(description="The date cannot be read.", extra={"label": "Unreadable date"})] = "score"
    wrong_date: Annotated[
        Act,
        Meta(description="The date is further away than the two bounds below allow.", extra={"label": "Wrong date"}),
    ] = "score"
    max_ahead_h: Annotated[
        int, Meta(ge=1, le=8760, description="Hours a date may lie ahead.", extra={"label": "Most hours ahead"})
    ] = 24
    max_past_days: Annotated[
        int, Meta(ge=1, le=36500, description="Days a date may lie in the past.", extra={"label": "Most days past"})
    ] = 30
    no_message_id: Annotated[
        Act, Meta(description="There is no Message-ID field.", extra={"label": "No Message-ID"})
    ] = "off"
    repeated: Annotated[
        Act,
        Meta(
            description="A field that may stand only once stands more often, like Subject or To.",
            extra={"label": "Repeated fields"},
        ),
    ] = "score"
    points: Points = 2.0


class Facts(msgspec.Struct, frozen=True):
    """What stands in the header; `date_ahead_s` is seconds from now to the date, None when it cannot be read."""

    from_fields: int = 0
    from_has_address: bool = False
    date_fields: int = 0
    date_ahead_s: int | None = None
    message_id_fields: int = 0
    repeated: tuple[str, ...] = ()


async def look(seen: Seen, settings: Settings, tools: Tools) -> Facts:
    """What stands in the header, read from the message as it came."""
    return of(seen.raw, tools.now)


def of(raw: bytes, now: float) -> Facts:
    """What stands in the header of a message; `now` is Unix time."""
    counted = Counter[str]()
    first: dict[str, bytes] = {}
    for field in headers.fields(raw):
        name = field.name.decode("latin-1")
        counted[name] += 1
        first.setdefault(name, raw[field.value_start : min(field.end, field.value_start + VALUE_BYTES)])
    return Facts(
        from_fields=counted["from"],
        from_has_address=bool(_ADDRESS.search(first.get("from", b""))),
        date_fields=counted["date"],
        date_ahead_s=_ahead(first.get("date", b""), now),
        message_id_fields=counted["message-id"],
        repeated=tuple(name for name in ONCE if counted[name] > 1),
    )


def judge(facts: Facts, settings: Settings) -> Verdict:
    """The strongest act over the checks."""
    has_date, ahead = facts.date_fields > 0, facts.date_ahead_s
    is_far = ahead is not None and not -settings.max_past_days * 86400 <= ahead <= settings.max_ahead_h * 3600
    checks = (
        (facts.from_fields == 0, settings.no_from, "There is no From field"),
        (facts.from_fields > 1, settings.several_from, f"There are {facts.from_fields} From fields"),
        (facts.from_fields == 1 and not facts.from_has_address, settings.from_without_address, "From has no address"),
        (not has_date, settings.no_date, "There is no Date field"),
        (has_date and ahead is None, settings.bad_date, "The Date field cannot be read"),
        (is_far, settings.wrong_date, f"The date is {_distance(ahead or 0)}"),
        (facts.message_id_fields == 0, settings.no_message_id, "There is no Message-ID field"),
        (bool(facts.repeated), settings.repeated, f"Repeated fields: {', '.join(facts.repeated)}"),
    )
    found = [
        Finding(act, reason, "Bad message header", settings.points, enhanced="5.6.0")
        for yes, act, reason in checks
        if yes
    ]
    evidence = {**msgspec.structs.asdict(facts), "repeated": list(facts.repeated)}
    return verdict(found, **(evidence if found else {}))


def _ahead(value: bytes, now: float) -> int | None:
    try:
        parsed = parsedate_tz(value[:DATE_BYTES].decode("ascii", "replace").strip())
        return round(mktime_tz(parsed) - now) if parsed else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None  # the standard library's reader of dates lets these through for odd input


def _distance(ahead_s: int) -> str:
    hours = abs(ahead_s) / 3600
    far = f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"
    return f"{far} {'ahead' if ahead_s > 0 else 'past'}"


FILTER = Filter("headers", "Is the header as it must be?", Settings, look=look, judge=judge, raw_only=True)
