"""From one recipient's verdicts to one decision. Pure: what was seen goes in, what to do comes out.

The rules, in this order:

1. Only filters whose mode is `on` can act; `shadow` is recorded beside them.
2. An ALLOW silences every bypassable filter: its verdict is kept, and does not act or score.
3. An unsure filter passes or defers as it declares.
4. For `postmaster` and `abuse` no list refuses (RFC 2142, RFC 5321 section 4.5.1).
5. The first REFUSE, HOLD or DEFER in the order of the filters acts.
6. Otherwise the sum of the scores meets the two thresholds of the domain.
7. Otherwise a TAG tags.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mx.filter import PASS, Action, Filter, Verdict, refuse
from mx.filters.sections import Scoring
from syncd.spool.record import Judgement

ROLE_LOCAL_PARTS = frozenset({"postmaster", "abuse"})
LISTS = frozenset({"sender_list", "recipient_list", "dnsbl"})
"""Filters that refuse because a name or address is on, or missing from, a list."""

_ACTING = (Action.REFUSE, Action.HOLD, Action.DEFER)


@dataclass(frozen=True, slots=True)
class Judged:
    """One filter's verdict, with what the look cost."""

    filter: Filter
    mode: str
    verdict: Verdict
    ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do for one recipient.

    `action` is PASS, TAG, HOLD, REFUSE or DEFER; `by` is the filter's name or "score"; `tag` is put
    before the subject when it is TAG.
    """

    action: Action
    by: str = ""
    verdict: Verdict = PASS
    score: float = 0.0
    tag: str = ""
    judgements: tuple[Judgement, ...] = ()


def judge(filter_: Filter, settings: Any, facts: Any) -> Verdict:
    """The filter's own verdict; an exception in it is *unsure*, and its name the evidence."""
    try:
        verdict = filter_.judge(facts, settings)
    except Exception as error:  # noqa: BLE001 - a wall: no filter may stop the mail (promise 3)
        return unsure(f"The filter failed: {type(error).__name__}")
    return verdict


def unsure(reason: str) -> Verdict:
    """A filter that could not tell."""
    return Verdict(Action.UNSURE, reason)


def decide(judged: Sequence[Judged], scoring: Scoring, *, local_part: str = "") -> Decision:
    """The decision over all verdicts of one recipient; `judged` in the order of the filters."""
    allowed = any(one.mode == "on" and one.verdict.action is Action.ALLOW for one in judged)
    in_force = [one for one in judged if _in_force(one, allowed, local_part.lower() in ROLE_LOCAL_PARTS)]
    score = sum(one.verdict.score for one in in_force if one.verdict.action is Action.SCORE)
    decision = _acted(in_force) or _scored(score, scoring) or _tagged(in_force, scoring) or Decision(Action.PASS)
    judgements = tuple(_judgement(one, one.filter.name == decision.by) for one in judged)
    return replace(decision, score=score, judgements=judgements)


def _in_force(one: Judged, allowed: bool, is_role: bool) -> bool:
    if one.mode != "on" or (allowed and one.filter.bypassable):
        return False
    return not (is_role and one.filter.name in LISTS)


def _acted(in_force: Sequence[Judged]) -> Decision | None:
    for one in in_force:
        if one.verdict.action in _ACTING:
            return Decision(one.verdict.action, one.filter.name, one.verdict)
        if one.verdict.action is Action.UNSURE and one.filter.when_unsure == "defer":
            verdict = replace(one.verdict, code=451, enhanced="4.7.1", text="Try again later")
            return Decision(Action.DEFER, one.filter.name, verdict)
    return None


def _scored(score: float, scoring: Scoring) -> Decision | None:
    if score <= 0 or score < min(scoring.doubt_at, scoring.refuse_at):
        return None
    if score >= scoring.refuse_at:
        return Decision(Action.REFUSE, "score", refuse(f"The score {score:g} reaches {scoring.refuse_at:g}"))
    verdict = Verdict(Action.HOLD, f"The score {score:g} reaches {scoring.doubt_at:g}: doubtful")
    if scoring.doubtful == "hold":
        return Decision(Action.HOLD, "score", verdict)
    if scoring.doubtful == "tag":
        return Decision(Action.TAG, "score", verdict, tag=scoring.tag)
    return None


def _tagged(in_force: Sequence[Judged], scoring: Scoring) -> Decision | None:
    for one in in_force:
        if one.verdict.action is Action.TAG:
            return Decision(Action.TAG, one.filter.name, one.verdict, tag=scoring.tag)
    return None


def _judgement(one: Judged, decided: bool) -> Judgement:
    verdict = one.verdict
    return Judgement(
        filter=one.filter.name,
        stage=one.filter.stage.name.lower(),
        mode=one.mode,
        action=verdict.action.value,
        score=verdict.score,
        reason=verdict.reason,
        evidence=dict(verdict.evidence),
        ms=round(one.ms, 2),
        acted=decided,
    )
