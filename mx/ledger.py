"""The mail ledger of one worker: recipients are counted where they enter and where they end (promise 1).

`drift` is what entered, minus what ended, minus what is still open. The three are counted in three
places, so that a recipient forgotten anywhere shows as a drift that is not 0.
"""

from collections.abc import Sequence
from typing import Protocol

from monitoring.metrics import mx as metrics
from syncd.spool.record import Outcome

_recipients = {outcome: metrics.ledger_recipients.labels(outcome.value) for outcome in Outcome}


class Told(Protocol):
    """Who else counts: the node's spool process, so that a dying worker's open recipients are not lost count of."""

    def opened(self, txn: str, recipients: int) -> None:
        """A transaction holds this many accepted recipients now."""

    def closed(self, txn: str) -> None:
        """It has ended."""


class Ledger:
    """Counts the recipients that were answered 250 at RCPT."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._open: dict[str, int] = {}
        self._in_flight = 0
        self._entered = 0
        self._ended = 0

    def enter(self, txn: str) -> None:
        """One more recipient of this transaction was accepted."""
        self._entered += 1
        self._in_flight += 1
        self._open[txn] = self._open.get(txn, 0) + 1
        metrics.ledger_entered.inc()
        self._told.opened(txn, self._open[txn])
        self._show()

    def close(self, txn: str, outcomes: Sequence[Outcome]) -> None:
        """The transaction is over and its recipients ended like this; one that is missing here is drift from now on.

        Both at once, so that the drift is 0 at every moment at which it can be read.
        """
        self._ended += len(outcomes)
        for outcome in outcomes:
            _recipients[outcome].inc()
        if recipients := self._open.pop(txn, 0):
            self._in_flight -= recipients
            self._told.closed(txn)
        self._show()

    @property
    def in_flight(self) -> int:
        """Accepted recipients of open transactions."""
        return self._in_flight

    @property
    def drift(self) -> int:
        """0 unless a recipient was forgotten or counted twice."""
        return self._entered - self._ended - self._in_flight

    def _show(self) -> None:
        metrics.ledger_in_flight.set(self._in_flight)
        metrics.ledger_drift.set(self.drift)
