"""What every node has applied: the nodes' receipts in etcd, compared with what was published.

Watches the receipts and META and keeps the last of each in memory; survives etcd being away by going on with what
it heard and telling how old that is. *Applied* is promise 4 of the design: a member counts when it reports at least
the revision, state `live`, with the digest that META had at the revision that it reports.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Heard:
    """The last report of one node; `heard_at` is our monotonic clock, `at` the node's unix time."""

    node: str
    generation: int
    revision: int
    digest: str
    state: str
    at: float
    heard_at: float
    unreadable: tuple[str, ...] = ()
    version: str = ""


class Receipts:
    """In-memory state of the fleet's receipts. Create it with an etcd configuration; `run` keeps it true."""

    def __init__(self, etcd: Any) -> None:
        self._etcd = etcd
        self._heard: dict[str, Heard] = {}

    def snapshot(self) -> dict[str, Heard]:
        """The last report of each node, by its name; a node that never reported is not there."""
        return dict(self._heard)
