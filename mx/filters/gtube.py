"""Does the mail hold the test string?

The GTUBE string is the agreed way to test a filter: a mail that holds it is harmless and has to be caught. It is
looked for in the message as it came and in its decoded text. An allow entry does not let it through, since whoever
sends a test wants to see it caught. The peer hears `550 5.7.1 This is the test message of spam filters`.
"""

from typing import Annotated

from msgspec import Meta

from mx.filter import Filter, FilterSettings, Seen, Tools, Verdict
from mx.filters.acts import AnyAct, Finding, Points, verdict

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""The string of SpamAssassin's sample-spam.txt."""


class Settings(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a domain can choose."""

    action: Annotated[AnyAct, Meta(description="What to do with a test mail.", extra={"label": "Action"})] = "refuse"
    points: Points = 20.0


async def look(seen: Seen, settings: Settings, tools: Tools) -> bool:
    """Whether the string is there."""
    return GTUBE.encode() in seen.raw or any(
        GTUBE in part.text for part in (seen.message.parts if seen.message else ())
    )


def judge(facts: bool, settings: Settings) -> Verdict:
    """The chosen act for a test mail."""
    text = "This is the test message of spam filters"
    found = [Finding(settings.action, "The mail holds the GTUBE test string", text, settings.points)] if facts else []
    return verdict(found)


FILTER = Filter("gtube", "Is it the test mail of filters?", Settings, look=look, judge=judge, bypassable=False)
