"""Carries out later delivery: mail kept for a server that was down is tried in its time, and ended."""

from datetime import UTC, datetime
from typing import Any

from control import delivery
from control.delivery import Ended
from control.quarantine import later, records
from control.quarantine.later import Due
from control.quarantine.packs import BodyAway, BodyLost, Packs
from control.store.pool import insist
from monitoring import log
from monitoring.metrics import control as metrics

LOG = log.get(__name__)


class Delivering:
    """One janitor's later deliveries; `under_way` are the ids of their rows."""

    def __init__(self, pool: Any, packs: Packs, hostname: str) -> None:
        self._pool, self._packs, self._hostname = pool, packs, hostname
        self.under_way: set[str] = set()

    async def one(self) -> bool:
        """Take a mail that is due and try it; False when there is none. Raises what PostgreSQL raises when it is away
        before one was taken."""
        due = await later.take(self._pool)
        if due is None:
            return False
        self.under_way.add(due.id)
        try:
            ended = await self._try(due)
            await insist(lambda: self._settle(due, ended))
        except Exception:
            LOG.exception("later delivery failed", item=due.id)
            await insist(lambda: later.wait(self._pool, due, "an error of ours; it has been logged", is_down=False))
        finally:
            self.under_way.discard(due.id)
        return True

    async def _try(self, due: Due) -> Ended:
        servers = await insist(lambda: delivery.hops(self._pool, due.domain, due.account_id))
        if not servers:
            return Ended("failed", "The domain is not served here any more, so it has no server to deliver to.")
        try:
            raw = await self._packs.read(due.pack, due.pack_offset, due.pack_bytes)
        except BodyAway as error:
            return Ended("later", f"the mail's body cannot be had now: {error}")
        except BodyLost as error:
            return Ended("failed", f"The body of this mail is lost: {error}")
        mail = delivery.letter(due.sender, due.recipient, raw, records.read(due.record))
        return await delivery.deliver(servers, mail, self._hostname)

    async def _settle(self, due: Due, ended: Ended) -> None:
        """Write down the end of a try. One that was cut after the mail was sent counts as not delivered."""
        LOG.info("later delivery", item=due.id, attempts=due.attempts, end=ended.end, outcome=ended.outcome)
        if ended.end == "done":
            await later.delivered(self._pool, due, ended.reply, ended.hop)
            metrics.jobs.labels("deliver", "done").inc()
            return
        if ended.end != "failed" and not later.is_over(due.received_at, datetime.now(UTC)):
            await later.wait(self._pool, due, ended.outcome, is_down=ended.down)
            return
        reason = "unknown_user" if ended.unknown_user else "next_hop"
        text = ended.outcome
        if ended.end != "failed":
            text = f"Your server did not take this mail for {later.GIVEN_UP_AFTER.days} days; at last: {ended.outcome}"
        await later.to_quarantine(self._pool, due, reason, text, ended.reply, ended.hop)
        metrics.jobs.labels("deliver", "failed").inc()
