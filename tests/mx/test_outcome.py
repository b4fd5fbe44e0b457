"""Every row of the outcome table."""

import itertools

import pytest

from mx.outcome import End, Fate, settle
from mx.replies import Reply, deferred, refused, taken
from syncd.spool.record import Outcome

OK = taken("ID")
REPLIES = {
    End.DELIVERED: OK,
    End.HELD: OK,
    End.DOWN: OK,
    End.REFUSED: refused(550, "5.7.1", "no", "https://p", "ID"),
    End.TURNED_DOWN: refused(554, "5.6.0", "no", "https://p", "ID"),
    End.UNKNOWN_USER: Reply(550, "5.1.1", "who?"),
    End.DEFERRED: deferred(451, "4.7.1", "later"),
}

ALIKE = [
    ("all passed, next hops took all", End.DELIVERED, 250, Outcome.DELIVERED),
    ("all refused by policy", End.REFUSED, 550, Outcome.KEPT),
    ("all held", End.HELD, 250, Outcome.KEPT),
    ("all deferred", End.DEFERRED, 451, Outcome.DEFERRED),
    ("all down, every domain asked to keep", End.DOWN, 250, Outcome.LATER),
    ("all refused by their next hop", End.TURNED_DOWN, 554, Outcome.KEPT),
    ("all unknown there", End.UNKNOWN_USER, 550, Outcome.REFUSED),
]


def fates(*ends: End) -> list[Fate]:
    return [Fate(end, REPLIES[end]) for end in ends]


@pytest.mark.parametrize(("row", "end", "code", "outcome"), ALIKE, ids=[row for row, *_ in ALIKE])
@pytest.mark.parametrize("recipients", [1, 3])
def test_alike(row: str, end: End, code: int, outcome: Outcome, recipients: int) -> None:
    settlement = settle(fates(*[end] * recipients), OK)
    assert settlement.reply.code == code
    assert settlement.reply == REPLIES[end]
    assert settlement.outcomes == (outcome,) * recipients


MIXED = [
    ("delivered and refused", (End.DELIVERED, End.REFUSED), (Outcome.DELIVERED, Outcome.KEPT)),
    ("delivered and held", (End.DELIVERED, End.HELD), (Outcome.DELIVERED, Outcome.KEPT)),
    ("delivered and deferred", (End.DELIVERED, End.DEFERRED), (Outcome.DELIVERED, Outcome.LATER)),
    ("delivered and down", (End.DELIVERED, End.DOWN), (Outcome.DELIVERED, Outcome.LATER)),
    ("delivered and turned down", (End.DELIVERED, End.TURNED_DOWN), (Outcome.DELIVERED, Outcome.KEPT)),
    ("delivered and unknown", (End.DELIVERED, End.UNKNOWN_USER), (Outcome.DELIVERED, Outcome.KEPT)),
    ("refused and held", (End.REFUSED, End.HELD), (Outcome.KEPT, Outcome.KEPT)),
    ("refused and deferred", (End.REFUSED, End.DEFERRED), (Outcome.KEPT, Outcome.LATER)),
    ("held and down", (End.HELD, End.DOWN), (Outcome.KEPT, Outcome.LATER)),
]


@pytest.mark.parametrize(("row", "ends", "outcomes"), MIXED, ids=[row for row, *_ in MIXED])
def test_a_mixture_is_250_and_each_its_own(row: str, ends: tuple[End, ...], outcomes: tuple[Outcome, ...]) -> None:
    settlement = settle(fates(*ends), OK)
    assert settlement.reply == OK
    assert settlement.outcomes == outcomes


def test_refusals_of_both_kinds_are_refused_with_the_reply_of_the_first() -> None:
    settlement = settle(fates(End.TURNED_DOWN, End.REFUSED, End.UNKNOWN_USER), OK)
    assert settlement.reply == REPLIES[End.TURNED_DOWN]
    assert settlement.outcomes == (Outcome.KEPT, Outcome.KEPT, Outcome.REFUSED)


def test_temporary_ends_are_deferred_together_unless_every_domain_asked_to_keep() -> None:
    settlement = settle(fates(End.DOWN, End.DEFERRED), OK)
    assert settlement.reply == REPLIES[End.DEFERRED]
    assert settlement.outcomes == (Outcome.DEFERRED, Outcome.DEFERRED)


@pytest.mark.parametrize("ends", list(itertools.product(End, repeat=3)))
def test_no_mail_is_lost_whatever_the_mixture(ends: tuple[End, ...]) -> None:
    settlement = settle(fates(*ends), OK)
    for end, outcome in zip(ends, settlement.outcomes, strict=True):
        if settlement.reply.is_ok:
            assert outcome in (Outcome.DELIVERED, Outcome.KEPT, Outcome.LATER), "told 250 and dropped"
        else:
            assert end is not End.DELIVERED, "a delivered mail must not be told an error"
            assert end is not End.HELD
