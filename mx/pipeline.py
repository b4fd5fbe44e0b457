"""The way of a mail after its final dot: judged, kept, relayed, settled; one reply.

The order is the promise: copies that are needed anyway are held by two hosts before anything is
relayed, and the reply comes after the last copy it relies on.
"""

import asyncio
import time

from monitoring import log
from monitoring.metrics import mx as metrics
from mx import judging, relay, replies
from mx.filter import Action
from mx.looks import Looks
from mx.outcome import End, Fate, settle
from mx.refuse import Results, secure, tell
from mx.replies import Reply
from mx.report import Report
from mx.services import Services
from mx.transaction import Addressee, Connection, Transaction, seen
from syncd.nexthop import Timeouts
from syncd.spool.client import NotSecured
from syncd.spool.record import Kind, Outcome

DOT_S = 118.0
"""From the final dot to our reply; RFC 5321 section 4.5.3.2.6 lets clients wait 10 minutes, many wait 2."""
RESERVE_S = 8.0
"""What of that is left for securing copies after the relay."""

_log = log.get(__name__)


class Pipeline:
    """Takes transactions through the stages after the dot. Stateless but for its services."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._hostname = services.node.smtp.hostname

    def report(self, connection: Connection, txn: Transaction) -> Report:
        """What can be told of this transaction."""
        return Report(self._services.node.name, self._hostname, connection, txn)

    async def accept(self, connection: Connection, txn: Transaction, looks: Looks) -> Reply:
        """The reply after the final dot, when every recipient has its outcome.

        Raises nothing: an error of ours is a 451 without detail. Not to be cancelled; it ends within `DOT_S`.
        """
        txn.times.dot = time.monotonic()
        report = self.report(connection, txn)
        try:
            async with asyncio.timeout(DOT_S):
                reply = await self._settle(connection, txn, looks, report)
        except NotSecured as error:
            _log.error("not_secured", id=txn.id, error=str(error))
            reply = replies.NOT_SECURED
        except TimeoutError:
            reply = replies.TOO_LATE
        except Exception as error:  # noqa: BLE001 - the wall of the accept path: 451, no detail, counted
            metrics.session_errors.inc()
            _log.exception("accept_failed", id=txn.id, error=repr(error))
            reply = replies.TRY_LATER
        self.close(txn, report, reply, "error")
        metrics.reply_seconds.observe(time.monotonic() - txn.times.dot)
        return reply

    def close(self, txn: Transaction, report: Report, reply: Reply | None, cause: str) -> None:
        """Write the transaction off: ledger, event, log line. Recipients without an outcome end by `cause`.

        After a reply they are deferred or refused as it says; without one the client abandoned them.
        """
        for one in txn.addressees:
            if one.outcome is None and not (reply and reply.is_ok):  # forgotten by a 250: the ledger has to show it
                one.outcome, one.cause = _by_reply(reply), cause
        self._services.ledger.close(txn.id, [one.outcome for one in txn.addressees if one.outcome])
        if txn.addressees or txn.turned_away:
            spoken = reply.line if reply else ""
            tell(self._services.spool, report, _without_copy(txn), spoken)
            _log.info("transaction", **report.log_fields(spoken))

    async def _settle(self, connection: Connection, txn: Transaction, looks: Looks, report: Report) -> Reply:
        await self._judge(connection, txn, looks, report)
        passing = [one for one in txn.addressees if _passes(one)]
        if passing:
            kept = [(one, Outcome.KEPT) for one in txn.addressees if one.decision and _is_kept(one.decision.action)]
            await secure(self._services.spool, report, Kind.KEPT, kept)
            await self._relay(passing, txn, report)
        settlement = settle([self._fate(one, txn.id) for one in txn.addressees], replies.taken(txn.id))
        await self._secure_rest(txn, report, settlement.outcomes, settlement.reply.line)
        return settlement.reply

    async def _judge(self, connection: Connection, txn: Transaction, looks: Looks, report: Report) -> None:
        report.message = await judging.parsed(self._services, txn.addressees, txn.raw)
        facts = seen(self._services.node.name, self._hostname, connection, txn, report.message)
        await judging.decide_all(self._services, looks, txn.addressees, facts)
        report.checks = judging.checks(txn.addressees)

    async def _relay(self, passing: list[Addressee], txn: Transaction, report: Report) -> None:
        left_s = DOT_S - RESERVE_S - (time.monotonic() - txn.times.dot)
        limits = self._services.relay_timeouts
        timeouts = Timeouts(limits.connect_s, limits.command_s, limits.dot_s, max(1.0, min(limits.total_s, left_s)))
        pool = self._services.next_hops
        await relay.relay(passing, txn, report, hostname=self._hostname, timeouts=timeouts, pool=pool)
        for one in passing:
            if one.answer and relay.is_unknown_user(one.answer):
                self._services.policies.remember_unknown(one.policy.domain, one.mailbox.local_part)

    def _fate(self, one: Addressee, txn_id: str) -> Fate:
        decision = one.decision
        if decision is None or decision.action in (Action.PASS, Action.TAG):
            return relay.fate(one, self._services.node.panel_url, txn_id)
        verdict = decision.verdict
        if decision.action is Action.DEFER:
            return Fate(End.DEFERRED, replies.deferred(verdict.code, verdict.enhanced, verdict.text))
        if decision.action is Action.HOLD:
            return Fate(End.HELD, replies.taken(txn_id))
        panel_url = self._services.node.panel_url
        return Fate(End.REFUSED, replies.refused(verdict.code, verdict.enhanced, verdict.text, panel_url, txn_id))

    async def _secure_rest(self, txn: Transaction, report: Report, outcomes: tuple[Outcome, ...], spoken: str) -> None:
        """Secure the copies that only the relay's answers made necessary; then set the other outcomes."""
        rest = [(one, outcome) for one, outcome in zip(txn.addressees, outcomes, strict=True) if one.outcome is None]
        for kind, wanted in ((Kind.KEPT, Outcome.KEPT), (Kind.LATER, Outcome.LATER)):
            copies = [(one, outcome) for one, outcome in rest if outcome is wanted]
            await secure(self._services.spool, report, kind, copies, spoken)
        for one, outcome in rest:
            one.outcome = outcome


def _passes(one: Addressee) -> bool:
    return one.decision is None or one.decision.action in (Action.PASS, Action.TAG)


def _is_kept(action: Action) -> bool:
    return action in (Action.REFUSE, Action.HOLD)


def _by_reply(reply: Reply | None) -> Outcome:
    if reply is None:
        return Outcome.ABANDONED
    return Outcome.DEFERRED if reply.is_temporary else Outcome.REFUSED


def _without_copy(txn: Transaction) -> Results:
    return [
        (one, one.outcome) for one in txn.addressees if one.outcome and one.outcome not in (Outcome.KEPT, Outcome.LATER)
    ]
