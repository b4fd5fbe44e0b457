"""The node's part of the mail ledger: what workers have open, and what was open in those that died. Pure.

A worker names itself by a random instance. One that reconnects within `GRACE_S` is the same, and tells again what it
has open; what one that stays away had open is counted as unknown, once (promise 1).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from monitoring.metrics import syncd as metrics

GRACE_S = 2.0
"""How long a worker may take to reconnect; it tries at least twice a second."""
MAX_OPEN = 100_000
"""Open transactions of one worker; far above what its connection limit allows."""


@dataclass(slots=True)
class _Worker:
    open: dict[str, int] = field(default_factory=dict)
    connections: int = 0
    gone_at: float = 0.0


class OpenTransactions:
    """Accepted recipients of transactions that are under way in the workers of this node."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._workers: dict[str, _Worker] = {}

    def connected(self, instance: str) -> None:
        """A worker is there."""
        self._workers.setdefault(instance, _Worker()).connections += 1

    def disconnected(self, instance: str) -> None:
        """Its connection ended; it may be back."""
        worker = self._workers[instance]
        worker.connections -= 1
        worker.gone_at = self._clock()

    def opened(self, instance: str, txn: str, recipients: int) -> None:
        """A transaction holds so many accepted recipients now. Told again it counts once."""
        held = self._workers[instance].open
        if txn in held or len(held) < MAX_OPEN:
            metrics.ledger_opened.inc(max(0, recipients - held.get(txn, 0)))
            held[txn] = max(recipients, held.get(txn, 0))

    def closed(self, instance: str, txn: str) -> None:
        """A transaction ended."""
        metrics.ledger_closed.inc(self._workers[instance].open.pop(txn, 0))

    def write_off(self) -> int:
        """Count what workers had open that did not come back, and forget them; returns how many recipients."""
        late = self._clock() - GRACE_S
        gone = [name for name, each in self._workers.items() if not each.connections and each.gone_at <= late]
        unknown = sum(sum(self._workers.pop(name).open.values()) for name in gone)
        metrics.ledger_unknown.inc(unknown)
        return unknown

    @property
    def recipients(self) -> int:
        """Recipients in flight."""
        return sum(sum(worker.open.values()) for worker in self._workers.values())
