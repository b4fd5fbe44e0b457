"""Combination of verdicts: one table."""

from typing import Any

import pytest

from mx.filter import PASS, Action, Filter, FilterSettings, Verdict, allow, defer, hold, refuse, score, tag
from mx.filters.sections import Scoring
from mx.judge import Judged, decide, judge, unsure


class Nothing(FilterSettings, frozen=True, kw_only=True):
    """No settings."""


def a_filter(name: str, **options: Any) -> Filter:
    async def look(seen: Any, settings: Any, tools: Any) -> None:
        return None

    return Filter(name, "?", Nothing, look=look, judge=lambda facts, settings: PASS, **options)


A, B, VIRUS = a_filter("a"), a_filter("b"), a_filter("virus", bypassable=False)
DNSBL, STRICT = a_filter("dnsbl"), a_filter("strict", when_unsure="defer")
TAGGING, HOLDING, DELIVERING = Scoring(), Scoring(doubtful="hold"), Scoring(doubtful="deliver")


def on(filter_: Filter, verdict: Verdict) -> Judged:
    return Judged(filter_, "on", verdict)


def shadow(filter_: Filter, verdict: Verdict) -> Judged:
    return Judged(filter_, "shadow", verdict)


TABLE: list[tuple[str, list[Judged], Scoring, str, Action, str]] = [
    ("nothing judged", [], TAGGING, "ann", Action.PASS, ""),
    ("all pass", [on(A, PASS), on(B, PASS)], TAGGING, "ann", Action.PASS, ""),
    ("a refusal acts", [on(A, PASS), on(B, refuse("r"))], TAGGING, "ann", Action.REFUSE, "b"),
    ("the first in order acts", [on(A, hold("h")), on(B, refuse("r"))], TAGGING, "ann", Action.HOLD, "a"),
    ("a deferral before a refusal acts", [on(A, defer("d")), on(B, refuse("r"))], TAGGING, "ann", Action.DEFER, "a"),
    ("shadow never acts", [shadow(A, refuse("r"))], TAGGING, "ann", Action.PASS, ""),
    ("a shadow allow silences nobody", [shadow(A, allow("a")), on(B, refuse("r"))], TAGGING, "ann", Action.REFUSE, "b"),
    ("an allow silences", [on(A, allow("a")), on(B, refuse("r"))], TAGGING, "ann", Action.PASS, ""),
    ("an allow behind silences too", [on(B, refuse("r")), on(A, allow("a"))], TAGGING, "ann", Action.PASS, ""),
    ("no list lets a virus in", [on(A, allow("a")), on(VIRUS, refuse("r"))], TAGGING, "ann", Action.REFUSE, "virus"),
    ("an allow silences scores", [on(A, allow("a")), on(B, score(99, "s"))], TAGGING, "ann", Action.PASS, ""),
    ("unsure passes", [on(A, unsure("late"))], TAGGING, "ann", Action.PASS, ""),
    ("unsure defers where declared", [on(STRICT, unsure("late"))], TAGGING, "ann", Action.DEFER, "strict"),
    ("below doubt", [on(A, score(4.9, "s"))], TAGGING, "ann", Action.PASS, ""),
    ("doubtful is tagged", [on(A, score(2, "s")), on(B, score(3, "s"))], TAGGING, "ann", Action.TAG, "score"),
    ("doubtful is held", [on(A, score(9.9, "s"))], HOLDING, "ann", Action.HOLD, "score"),
    ("doubtful is delivered", [on(A, score(9.9, "s"))], DELIVERING, "ann", Action.PASS, ""),
    ("the upper threshold refuses", [on(A, score(10, "s"))], DELIVERING, "ann", Action.REFUSE, "score"),
    ("a verdict comes before the score", [on(A, score(10, "s")), on(B, hold("h"))], TAGGING, "ann", Action.HOLD, "b"),
    ("shadow scores do not count", [shadow(A, score(99, "s"))], TAGGING, "ann", Action.PASS, ""),
    ("no points, no doubt", [on(A, PASS)], Scoring(refuse_at=0, doubt_at=0), "ann", Action.PASS, ""),
    ("a tag tags", [on(A, tag("t"))], TAGGING, "ann", Action.TAG, "a"),
    ("no list refuses postmaster", [on(DNSBL, refuse("r"))], TAGGING, "Postmaster", Action.PASS, ""),
    ("no list refuses abuse", [on(DNSBL, refuse("r"))], TAGGING, "abuse", Action.PASS, ""),
    ("others do", [on(DNSBL, refuse("r"))], TAGGING, "ann", Action.REFUSE, "dnsbl"),
    ("postmaster is refused a virus", [on(VIRUS, refuse("r"))], TAGGING, "postmaster", Action.REFUSE, "virus"),
]


@pytest.mark.parametrize(
    ("case", "judged", "scoring", "local_part", "action", "by"), TABLE, ids=[case for case, *_ in TABLE]
)
def test_decide(case: str, judged: list[Judged], scoring: Scoring, local_part: str, action: Action, by: str) -> None:
    decision = decide(judged, scoring, local_part=local_part)
    assert (decision.action, decision.by) == (action, by)
    assert [one.filter for one in decision.judgements] == [one.filter.name for one in judged], "every verdict is kept"
    assert [one.filter for one in decision.judgements if one.acted] == ([by] if by not in ("", "score") else [])


def test_a_deferral_for_being_unsure_is_a_4xx() -> None:
    decision = decide([on(STRICT, unsure("late"))], TAGGING)
    assert (decision.verdict.code, decision.verdict.enhanced) == (451, "4.7.1")


def test_a_tag_carries_the_domains_words() -> None:
    assert decide([on(A, tag("t"))], Scoring(tag="[?]")).tag == "[?]"


def test_a_judge_that_raises_is_unsure_and_keeps_its_secret() -> None:
    async def look(seen: Any, settings: Any, tools: Any) -> None:
        return None

    def broken(facts: Any, settings: Any) -> Verdict:
        raise RuntimeError("secret")

    verdict = judge(Filter("x", "?", Nothing, look=look, judge=broken), Nothing(), None)
    assert verdict.action is Action.UNSURE
    assert "secret" not in verdict.reason
