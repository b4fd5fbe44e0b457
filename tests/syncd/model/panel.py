"""The panel's side of the model: the real receipts, fed from the simulated etcd in its order."""

from collections import Counter

import msgspec

from control.receipts import Receipts
from syncd import keys
from syncd.kv import Compacted
from tests.syncd.model.etcd import SimulatedEtcd
from tests.syncd.model.invariants import Node, Target, check_applied

FIRST, END = keys.RECEIPTS, keys.META + "\0"
REMEMBERED = 30
"""Changes that are watched until they are called applied."""


class Panel:
    """What one panel knows; a restarted one is a new one that watches the same changes."""

    def __init__(
        self, etcd: SimulatedEtcd, nodes: dict[str, Node], counts: Counter[str], targets: list[Target]
    ) -> None:
        self.receipts, self.targets = Receipts(), targets
        self._etcd, self._nodes, self._counts = etcd, nodes, counts
        self._at: int | None = None
        self._connection = -1

    def committed(self, target: Target) -> None:
        """Somebody changed something through this panel."""
        self.receipts.committed(target)
        self.targets = [*self.targets[-REMEMBERED:], target]

    def hear(self) -> None:
        """Hear what etcd tells next; list anew after a break."""
        if self._connection != self._etcd.connection or self._at is None:
            self._list()
            return
        try:
            changes = self._etcd.poll(FIRST, END, self._at)
        except Compacted:
            self._at = None
            return
        for item in changes.items:
            self._at = item.revision + 1
            self._tell(item.key, item.value)

    def _list(self) -> None:
        page = self._etcd.range(FIRST, END, 0, 1_000)
        self._connection, self._at = self._etcd.connection, page.revision + 1
        for item in page.items:
            self._tell(item.key, item.value)
        self.receipts.heard_only({item.key.removeprefix(keys.RECEIPTS) for item in page.items})

    def _tell(self, key: str, value: bytes | None) -> None:
        try:
            if key != keys.META:
                node = key.removeprefix(keys.RECEIPTS)
                self.receipts.silent(node) if value is None else self.receipts.told(value)
            elif value is not None:
                self.receipts.wrote(value)
        except msgspec.DecodeError:
            self._counts["unreadable for the panel"] += 1
        for target in [each for each in self.targets if self.receipts.applied(each)]:
            check_applied(target, self._nodes)
            self.targets.remove(target)
            self._counts["applied"] += 1
