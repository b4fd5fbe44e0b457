"""The outcome table: how each recipient of one mail ended, and the one reply for all of them.

Pure, and the whole of the promise "one outcome": rows as in docs/flow.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mx.replies import Reply
from syncd.spool.record import Outcome


class End(Enum):
    """How one recipient ended, before the others are looked at."""

    DELIVERED = auto()
    REFUSED = auto()
    """By the domain's policy."""
    HELD = auto()
    DEFERRED = auto()
    """By a filter, by the next hop's 4xx, or by a dialogue that broke after the dot."""
    DOWN = auto()
    """No next hop could be spoken to, and the domain asks us to keep mail meanwhile."""
    TURNED_DOWN = auto()
    """By the next hop's 5xx."""
    UNKNOWN_USER = auto()
    """By the next hop's 5.1.1."""


@dataclass(frozen=True, slots=True)
class Fate:
    """One recipient's end and what the sender would hear were it the only one."""

    end: End
    reply: Reply


@dataclass(frozen=True, slots=True)
class Settlement:
    """The reply after the final dot, and each recipient's outcome in the order given."""

    reply: Reply
    outcomes: tuple[Outcome, ...]


_REFUSALS = frozenset({End.REFUSED, End.TURNED_DOWN, End.UNKNOWN_USER})
_TEMPORARY = frozenset({End.DEFERRED, End.DOWN})

_ALONE = {
    End.DELIVERED: Outcome.DELIVERED,
    End.REFUSED: Outcome.KEPT,
    End.HELD: Outcome.KEPT,
    End.DEFERRED: Outcome.DEFERRED,
    End.DOWN: Outcome.LATER,
    End.TURNED_DOWN: Outcome.KEPT,
    End.UNKNOWN_USER: Outcome.REFUSED,
}
"""Outcome where all recipients end alike, so that the reply says it."""

_MIXED = {
    **_ALONE,
    End.DEFERRED: Outcome.LATER,  # the sender was told 250 and will not come again
    End.UNKNOWN_USER: Outcome.KEPT,  # or nobody would ever hear of it
}
"""Outcome where the reply has to be 250 because the ends differ."""


def settle(fates: Sequence[Fate], ok: Reply) -> Settlement:
    """The row of the outcome table for these recipients (at least one); `ok` is the 250 with our id."""
    ends = {fate.end for fate in fates}
    if ends <= _REFUSALS:
        return Settlement(fates[0].reply, tuple(_ALONE[fate.end] for fate in fates))
    if ends <= _TEMPORARY and End.DEFERRED in ends:
        first = next(fate for fate in fates if fate.end is End.DEFERRED)
        return Settlement(first.reply, (Outcome.DEFERRED,) * len(fates))
    alike = ends <= {End.DELIVERED} or ends <= {End.HELD} or ends <= {End.DOWN}
    table = _ALONE if alike else _MIXED
    return Settlement(ok, tuple(table[fate.end] for fate in fates))
