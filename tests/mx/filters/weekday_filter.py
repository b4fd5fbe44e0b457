"""Is it a working day?

A filter that only a test declares: it shows what one file and one line are enough for. The peer hears
`550 5.7.1 Not on this day`.
"""

from typing import Annotated

from msgspec import Meta

from mx.filter import Filter, FilterSettings, Seen, Tools, Verdict
from mx.filters.acts import AnyAct, Finding, verdict


class Settings(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a domain can choose."""

    free_days: Annotated[
        int, Meta(ge=0, le=7, description="Days of the week without mail.", extra={"label": "Free days"})
    ] = 2
    action: Annotated[AnyAct, Meta(description="What to do on a free day.", extra={"label": "Action"})] = "refuse"


async def look(seen: Seen, settings: Settings, tools: Tools) -> bool:
    """Whether the mail asks to be taken for one of a free day."""
    return b"weekend" in seen.raw


def judge(facts: bool, settings: Settings) -> Verdict:
    """The chosen act on a free day."""
    reason = f"One of {settings.free_days} free days"
    return verdict([Finding(settings.action, reason, "Not on this day")] if facts and settings.free_days else ())


FILTER = Filter("weekday", "Is it a working day?", Settings, look=look, judge=judge, raw_only=True)
