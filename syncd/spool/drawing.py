"""Draws the spool protocol's tables as text, for docs/spool-protocol.md. `python -m syncd.spool.drawing` prints it."""

from syncd.spool.frames import Kind
from syncd.spool.messages import Code, Purpose
from syncd.spool.protocol import TABLES, Side, State

BEGIN, END = "<!-- made by syncd/spool/drawing.py from the tables -->", "<!-- end of what is made -->"

_WHO = {
    Purpose.WORKER: ("worker", "spool process of its node"),
    Purpose.OWN: ("origin", "receiver"),
    Purpose.COPY: ("origin", "peer"),
    Purpose.TAKEOVER: ("peer", "receiver"),
}


def drawing() -> str:
    """The generated part of the page, markers included."""
    parts = [BEGIN, ""]
    for purpose in Purpose:
        parts += _link(purpose)
    parts += ["Codes of REFUSE and BYE: " + ", ".join(f"`{code.value}`" for code in Code) + ".", "", END]
    return "\n".join(parts)


def _link(purpose: Purpose) -> list[str]:
    connects, listens = _WHO[purpose]
    table = TABLES[purpose]
    lines = [f"`{purpose.value}`: {connects} (C) connects to {listens} (L)", "", "```"]
    for state in State:
        by_target: dict[State, dict[Side, list[str]]] = {}
        for (side, kind), target in table[state].items():
            by_target.setdefault(target, {}).setdefault(side, []).append(Kind(kind).name)
        for target, sides in by_target.items():
            arrow = f"{state.value:>5} ──> {target.value:<5}" if target is not state else f"{state.value:>5} ──┐ stays"
            said = [f"{side.name[0]}: {' '.join(kinds)}" for side, kinds in sides.items()]
            lines += [f"{arrow if not n else '':<18}{line}" for n, line in enumerate(said)]
    return [*lines, "```", ""]


if __name__ == "__main__":
    print(drawing())
