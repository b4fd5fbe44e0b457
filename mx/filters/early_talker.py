"""Did the client talk before our greeting?

A client has to wait for the greeting (RFC 5321 section 4.3.1). Programs that only push mail out do not. What is found
depends on how long the node waits before it greets (`greet_delay_s` of its configuration; 0 looks once without
waiting). The peer hears `550 5.5.1 Talked before the greeting`.
"""

from typing import Annotated

from msgspec import Meta

from mx.filter import Filter, FilterSettings, Seen, Stage, Tools, Verdict
from mx.filters.acts import AnyAct, Finding, Points, verdict


class Settings(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a domain can choose."""

    action: Annotated[AnyAct, Meta(description="What to do with mail of such a client.", extra={"label": "Action"})] = (
        "refuse"
    )
    points: Points = 5.0


async def look(seen: Seen, settings: Settings, tools: Tools) -> bool:
    """Whether anything was received before the greeting."""
    return seen.talked_early


def judge(facts: bool, settings: Settings) -> Verdict:
    """The chosen act for a client that did not wait."""
    reason = "The client sent commands before our greeting"
    found = [Finding(settings.action, reason, "Talked before the greeting", settings.points, enhanced="5.5.1")]
    return verdict(found if facts else ())


FILTER = Filter(
    "early_talker", "Did the client wait for our greeting?", Settings, stage=Stage.CONNECT, look=look, judge=judge
)
