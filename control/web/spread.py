"""Where a settings revision is live, in the words of the propagation line. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from control.web import words


@dataclass(frozen=True, slots=True)
class At:
    """One member node: whether it has applied the revision, how long that took, how old its last report is.

    `ms` is from commit to report, None when unknown; `age_s` None when the node never reported.
    """

    name: str
    applied: bool
    ms: float | None = None
    age_s: float | None = None
    revision: int | None = None

    @property
    def text(self) -> str:
        """What the line says of this node."""
        if self.applied:
            return "live" if self.ms is None else f"live after {words.age(self.ms / 1000)}"
        if self.age_s is None:
            return "awaited, no report from it"
        at = f" at revision {self.revision}" if self.revision is not None else ""
        return f"awaited{at}, last report {_steady(self.age_s)} ago"


@dataclass(frozen=True, slots=True)
class Spread:
    """A revision over all members."""

    revision: int
    nodes: tuple[At, ...]

    @property
    def complete(self) -> bool:
        """Whether every member has it; never true of no members."""
        return bool(self.nodes) and all(node.applied for node in self.nodes)

    @property
    def sentence(self) -> str:
        """The line itself."""
        live = sum(node.applied for node in self.nodes)
        start = f"Live on {live} of {len(self.nodes)} nodes, revision {self.revision}"
        slowest = max((node.ms for node in self.nodes if node.ms is not None), default=None)
        if self.complete:
            return f"{start}, {words.age(slowest / 1000)}" if slowest is not None else start
        awaited = [node.name for node in self.nodes if not node.applied]
        return f"{start}; awaiting {', '.join(awaited)}" if awaited else f"{start}; no node has joined yet"


def _steady(age_s: float) -> str:
    """An age in steps of five seconds, so that a live line does not change, and is not read out, at every look."""
    return "less than 5 s" if age_s < 5 else words.age(max(10.0, age_s // 5 * 5)) if age_s >= 10 else "5 s"


def spread(revision: int, nodes: Iterable[At]) -> Spread:
    """The nodes in the order of their names."""
    return Spread(revision, tuple(sorted(nodes, key=lambda node: node.name)))
