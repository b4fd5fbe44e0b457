"""What a domain can have done about a finding, and the one verdict over several findings. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from mx.filter import PASS, Action, Verdict

Act = Literal["off", "score", "refuse"]
"""For a check that is one of several in its filter."""
AnyAct = Literal["score", "tag", "hold", "refuse"]
"""For a filter of one question; off is its mode."""
AnyActOrOff = Literal["off", "score", "tag", "hold", "refuse"]
"""For one of several findings, any of which may be left alone."""

Points = Annotated[
    float,
    Meta(ge=0, le=100, description="Points of each finding that scores.", extra={"label": "Points"}),
]

_STRENGTH = ("refuse", "defer", "hold", "tag", "score")
POLICY = "Message refused by the recipient's policy"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found, and what the domain wants done about it.

    `act` is one of `Act` and `AnyAct`, or "defer"; `reason` is a plain sentence for the customer without its full
    stop; `text`, `code` and `enhanced` are what the peer hears when it is refused.
    """

    act: str
    reason: str
    text: str = POLICY
    points: float = 0.0
    code: int = 550
    enhanced: str = "5.7.1"


def verdict(findings: Iterable[Finding], **evidence: Any) -> Verdict:
    """The strongest act over the findings: refuse, defer, hold, tag, score; points of findings that score are summed.

    Findings whose act is "off" are left out. Without any the verdict passes, and carries the evidence all the same.
    """
    counted = [one for one in findings if one.act != "off"]
    if not counted:
        return Verdict(Action.PASS, evidence=evidence) if evidence else PASS
    act = min((one.act for one in counted), key=_STRENGTH.index)
    acting = [one for one in counted if one.act == act]
    reason = "; ".join(one.reason for one in acting)
    if act == "score":
        return Verdict(Action.SCORE, reason, score=sum(one.points for one in acting), evidence=evidence)
    first = acting[0]
    if act == "defer":
        return Verdict(Action.DEFER, reason, code=451, enhanced="4.7.1", text="Try again later", evidence=evidence)
    return Verdict(Action(act), reason, code=first.code, enhanced=first.enhanced, text=first.text, evidence=evidence)
