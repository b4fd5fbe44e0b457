"""May this client send for the sender's domain?

SPF (RFC 7208): a domain publishes which clients send its mail. What is checked is the domain of the envelope sender;
for the null sender it is the HELO name. Each result has its own choice. Forwarded mail fails honestly, which is why a
softer act can be chosen. Delivered mail carries the result in an Authentication-Results field (RFC 8601). A result of
temperror means that DNS did not answer: the filter is then unsure, or asks the sender to come again. The peer hears
`550 5.7.23 SPF validation failed`, or `550 5.7.24 SPF validation error` for a record that cannot be evaluated
(RFC 7372).
"""

from typing import Annotated, Literal

from msgspec import Meta

from mx.checks import spf
from mx.checks.spf import Spf
from mx.filter import Action, Filter, FilterSettings, Seen, Stage, Tools, Verdict
from mx.filters.acts import AnyActOrOff, Finding, Points, verdict


class Settings(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a domain can choose for each result."""

    fail: Annotated[
        AnyActOrOff, Meta(description="The domain says that this client is not its own.", extra={"label": "Fail"})
    ] = "refuse"
    softfail: Annotated[
        AnyActOrOff, Meta(description="The domain says that it is probably not its own.", extra={"label": "Soft fail"})
    ] = "score"
    neutral: Annotated[
        AnyActOrOff, Meta(description="The domain says nothing of this client.", extra={"label": "Neutral"})
    ] = "off"
    none: Annotated[AnyActOrOff, Meta(description="The domain publishes no SPF.", extra={"label": "None"})] = "off"
    permerror: Annotated[
        AnyActOrOff, Meta(description="The domain's record cannot be evaluated.", extra={"label": "Broken record"})
    ] = "off"
    temperror: Annotated[
        Literal["off", "defer"],
        Meta(description="DNS did not answer: go on, or ask the sender to come again.", extra={"label": "No answer"}),
    ] = "off"
    points: Points = 3.0


async def look(seen: Seen, settings: Settings, tools: Tools) -> Spf:
    """The result of the check."""
    return await spf.check(
        tools.resolver,
        client_ip=seen.client_ip,
        sender=seen.sender,
        helo=seen.helo,
        receiver=seen.hostname,
        now=tools.now,
    )


def judge(facts: Spf, settings: Settings) -> Verdict:
    """The chosen act for the result; every verdict carries the result, for Authentication-Results."""
    evidence = {
        "result": facts.result,
        "domain": facts.domain,
        "identity": facts.identity,
        "mechanism": facts.mechanism,
        "explanation": facts.explanation,
    }
    reason = f"SPF of {facts.domain or 'nobody'} says {facts.result}"
    reason += f" ({facts.mechanism})" if facts.mechanism else ""
    if facts.result == "temperror" and settings.temperror == "off":
        return Verdict(Action.UNSURE, reason, evidence=evidence)
    if facts.result == "pass":
        return Verdict(Action.PASS, evidence=evidence)
    broken = facts.result == "permerror"
    text, enhanced = ("SPF validation error", "5.7.24") if broken else ("SPF validation failed", "5.7.23")
    act = getattr(settings, facts.result)
    return verdict([Finding(act, reason, text, settings.points, enhanced=enhanced)], **evidence)


FILTER = Filter(
    "spf",
    "May this client send for the sender's domain?",
    Settings,
    stage=Stage.MAIL,
    look=look,
    judge=judge,
    deadline_s=15.0,
)
