"""Has copies secured before any reply that relies on them, and tells what became of the rest."""

import time
from collections.abc import Sequence
from typing import Protocol

from monitoring.metrics import mx as metrics
from mx.report import Report
from mx.transaction import Addressee
from syncd.spool.record import Kind, Outcome, Record

Results = Sequence[tuple[Addressee, Outcome]]


class Secures(Protocol):
    """The part of the spool that this needs."""

    async def secure(self, record: Record, body: bytes) -> None:
        """See `mx.services.Spool`."""

    def event(self, record: Record) -> None:
        """See `mx.services.Spool`."""


async def secure(spool: Secures, report: Report, kind: Kind, results: Results, reply: str = "") -> None:
    """Return once the copy for these recipients is held by two hosts; then their outcomes are set.

    Raises `NotSecured` (promise 2): nothing may be answered that relies on the copy.
    """
    if not results:
        return
    began = time.perf_counter()
    try:
        await spool.secure(report.record(kind, results, reply), report.raw)
    except Exception:
        metrics.secure_failures.inc()
        raise
    metrics.secure_seconds.observe(time.perf_counter() - began)
    for addressee, outcome in results:
        addressee.outcome = outcome


def tell(spool: Secures, report: Report, results: Results, reply: str = "") -> None:
    """Send the event of the recipients that no copy speaks of; those turned away at RCPT are among them."""
    record = report.record(Kind.EVENT, results, reply)
    if record.recipients:
        spool.event(record)
