"""Who may say what, and when, on each link of the spool protocol: tables of transitions, without I/O.

A link has two ends, the one that connects and the one that listens. Both walk through the same table, with what they
say and with what they hear, so that an end cannot disagree with the other's documentation.
"""

from collections.abc import Mapping
from enum import StrEnum

from syncd.spool.frames import BadFrame, Kind
from syncd.spool.messages import Purpose


class Side(StrEnum):
    """An end of a link."""

    CONNECTS = "connects"
    LISTENS = "listens"

    @property
    def other(self) -> "Side":
        """The other end."""
        return Side.LISTENS if self is Side.CONNECTS else Side.CONNECTS


class State(StrEnum):
    """How far a link is."""

    NEW = "new"
    ASKED = "asked"
    """Who connects has said what it wants."""
    OPEN = "open"
    ENDED = "ended"


Table = Mapping[State, Mapping[tuple[Side, Kind], State]]


def _table(from_connects: tuple[Kind, ...], from_listens: tuple[Kind, ...]) -> Table:
    """The table of a link, by what each end may say while it is open."""
    mine, yours = Side.CONNECTS, Side.LISTENS
    stay = {(mine, kind): State.OPEN for kind in (*from_connects, Kind.PING, Kind.PONG)}
    stay |= {(yours, kind): State.OPEN for kind in (*from_listens, Kind.PING, Kind.PONG)}
    end = {(mine, Kind.BYE): State.ENDED, (yours, Kind.BYE): State.ENDED, (yours, Kind.REFUSE): State.ENDED}
    return {
        State.NEW: {(mine, Kind.HELLO): State.ASKED},
        State.ASKED: {(yours, Kind.WELCOME): State.OPEN, (yours, Kind.REFUSE): State.ENDED},
        State.OPEN: stay | end,
        State.ENDED: {},
    }


TABLES: Mapping[Purpose, Table] = {
    Purpose.WORKER: _table(
        (Kind.SUBMIT, Kind.BODY, Kind.GIVEN_UP, Kind.OPENED, Kind.CLOSED), (Kind.SECURED, Kind.NOT_SECURED)
    ),
    Purpose.OWN: _table((Kind.RECORD, Kind.BODY, Kind.WITHDRAWN), (Kind.HELD, Kind.STORED, Kind.WITHDRAWN)),
    Purpose.COPY: _table((Kind.RECORD, Kind.BODY, Kind.WITHDRAWN, Kind.RELEASED), (Kind.HELD,)),
    Purpose.TAKEOVER: _table((Kind.RECORD, Kind.BODY), (Kind.HELD, Kind.STORED)),
}
"""One table a purpose. Only a receiver says STORED, and WITHDRAWN when that is done; only a copy's holder is told
RELEASED."""


class Link:
    """One end of a link, as far as its table goes. A number in place of a kind is a frame that we do not know."""

    def __init__(self, purpose: Purpose, side: Side) -> None:
        self._table = TABLES[purpose]
        self._side = side
        self.state = State.NEW
        self.is_newer = False
        """Whether the other end speaks a newer minor version, so that frames unknown to us are skipped."""

    def say(self, kind: Kind) -> None:
        """Note what this end says. Raises BadFrame when it may not; that is a fault of ours."""
        self._step(self._side, kind)

    def hear(self, kind: Kind | int) -> bool:
        """Note what the other end says; False for a frame to be skipped. Raises BadFrame when it may not say it."""
        if not isinstance(kind, Kind):
            if self.is_newer and self.state is State.OPEN:
                return False
            raise BadFrame(f"a frame of the unknown kind {kind}")
        self._step(self._side.other, kind)
        return True

    def _step(self, side: Side, kind: Kind) -> None:
        state = self._table[self.state].get((side, kind))
        if state is None:
            raise BadFrame(f"{kind.name} from the end that {side}, while the link is {self.state}")
        self.state = state
