"""When a node leaves rotation and when it comes back. Pure; the clock is passed in.

A node out of rotation greets new sessions with 421, so that senders go to its peers, and lets open ones finish. It
leaves when its peers are further than it for more than `BEHIND_S` without its moving, or when its content is not what
was published and that of a peer is; and only on fresh proof: who cannot ask etcd stays. It never leaves as the last.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

from syncd.published import Point
from syncd.receipts import Receipt
from syncd.status import Status

BEHIND_S = 10.0
"""Behind the peers, and not moving, for so long. A bulk change keeps a node behind, but moving."""
DIFFERS_S = 5.0
"""A digest that differs makes the follower load everything at once, which mends most of it."""
WELL_S = 5.0
"""Without fault for so long before it comes back."""
GAP_S = 10.0
"""Who has not looked for so long (frozen, swapped out) has to look again before it judges by the time that passed."""

Why = Literal["", "behind", "differs"]


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered between two looks, in seconds of one monotonic clock.

    `level_at`: when no peer was further, or our point moved; `agreed_at`: when our content was not known to be the
    only wrong one; `faulty_at`: when there was a reason to be out.
    """

    looked_at: float = float("-inf")
    point: Point = (0, 0)
    level_at: float = 0.0
    agreed_at: float = 0.0
    faulty_at: float = float("-inf")

    @property
    def why(self) -> Why:
        """The reason to be out of rotation; "" for none."""
        if self.looked_at - self.agreed_at > DIFFERS_S:
            return "differs"
        return "behind" if self.looked_at - self.level_at > BEHIND_S else ""

    @property
    def is_well(self) -> bool:
        """Whether there was no reason for some time."""
        return self.looked_at - self.faulty_at >= WELL_S


def look(before: Memory, mine: Status, peers: Sequence[Receipt], now: float) -> Memory:
    """What is remembered after a look at our own store and at what the peers report."""
    live = [peer for peer in peers if peer.state == "live"]
    slept = now - before.looked_at > GAP_S
    moved = mine.point != before.point or mine.state == "loading"
    is_level = not any(peer.point > mine.point for peer in live)
    is_right = mine.agrees or not mine.complete or not any(peer.agrees for peer in live)
    seen = Memory(
        looked_at=now,
        point=mine.point,
        level_at=now if slept or moved or is_level else before.level_at,
        agreed_at=now if slept or is_right else before.agreed_at,
        faulty_at=before.faulty_at,
    )
    return replace(seen, faulty_at=now) if seen.why else seen


class Turn(Enum):
    """What a node does about its place in rotation."""

    STAY = "as it is"
    LEAVE = "greet new sessions with 421"
    RETURN = "take new sessions again"
    LAST = "has a reason to leave, and nobody else is left: serve, and raise an alarm"


def turn(node: str, memory: Memory, out: Collection[str], peers: Sequence[Receipt]) -> Turn:
    """What to do, when the nodes in `out` are out of rotation. A peer can be left with the work when it is live, its
    content is what was published, and it is in rotation itself."""
    others = any(peer.state == "live" and peer.agrees and peer.node not in out for peer in peers)
    if memory.why:
        if not others:
            return Turn.LAST
        return Turn.STAY if node in out else Turn.LEAVE
    return Turn.RETURN if node in out and (memory.is_well or not others) else Turn.STAY
