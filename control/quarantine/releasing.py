"""Carries out releases: from a queued job to the recipient's server, and to the words that say how it went."""

import asyncio
from typing import Any

from control import delivery
from control.delivery import Ended
from control.quarantine import items, jobs
from control.quarantine.items import Kept
from control.quarantine.jobs import JANITOR, Lost, Taken
from control.quarantine.packs import BodyAway, BodyLost, Packs
from control.store.pool import AWAY, insist
from monitoring import log
from monitoring.metrics import control as metrics
from syncd.layers import NextHop

PAUSES_S = (1.0, 4.0)
"""Between tries that a server put off. Whoever clicked looks on: they get its words rather than hours of silence."""
LOG = log.get(__name__)


class NotRecorded(Exception):
    """That the mail is about to leave could not be written down, so it did not leave."""


class Releasing:
    """One janitor's deliveries out of the quarantine; `under_way` are the ids of its jobs."""

    def __init__(self, pool: Any, packs: Packs, secret: bytes, hostname: str) -> None:
        self._pool, self._packs, self._secret, self._hostname = pool, packs, secret, hostname
        self.under_way: set[str] = set()

    async def one(self) -> bool:
        """Take a job and bring it to its end; False when there is none. Raises what PostgreSQL raises when it is away
        before a job was taken."""
        taken = await jobs.take(self._pool)
        if taken is None:
            return False
        self.under_way.add(taken.id)
        try:
            await self._bring_to_end(taken)
        except Lost:
            LOG.warning("job was taken over", job=taken.id)
        except Exception:
            LOG.exception("release failed", job=taken.id)
            words = "Something went wrong on our side; it has been logged."
            await insist(lambda: jobs.abandon(self._pool, taken, words))
        finally:
            self.under_way.discard(taken.id)
        return True

    async def _bring_to_end(self, taken: Taken) -> None:
        ended = await self._try(taken)
        for pause_s in PAUSES_S:
            if ended.end != "later":
                break
            words = f"{ended.outcome}; trying again in {pause_s:g} s"
            await insist(lambda words=words: jobs.not_sent(self._pool, taken, words))  # type: ignore[misc]
            await asyncio.sleep(pause_s)
            ended = await self._try(taken)
        state = "failed" if ended.end == "later" else ended.end
        await insist(lambda: jobs.end(self._pool, taken, state, ended.outcome))
        metrics.jobs.labels("release", state).inc()
        LOG.info("release ended", job=taken.id, item=taken.item, state=state, outcome=ended.outcome)

    async def _try(self, taken: Taken) -> Ended:
        kept = await insist(lambda: items.get(self._pool, JANITOR, taken.item))
        if kept is None:
            return Ended("failed", "this mail is not in the quarantine any more")
        recipient = taken.recipient or kept.recipient
        servers = await insist(lambda: self._hops(kept, taken.recipient))
        if not servers:
            domain = recipient.rpartition("@")[2]
            return Ended("failed", f"{domain} is not served here any more, so it has no server to deliver to")
        try:
            raw = await self._packs.read(kept.pack, kept.pack_offset, kept.pack_bytes)
        except BodyAway as error:
            return Ended("later", f"the mail's body cannot be had now: {error}")
        except BodyLost as error:
            return Ended("failed", f"the body of this mail is lost: {error}")
        try:
            return await delivery.deliver(
                servers, self._letter(kept, recipient, raw), self._hostname, self._sending(taken)
            )
        except NotRecorded:
            return Ended("later", "the database did not answer, and without it nothing is sent")

    async def _hops(self, kept: Kept, another: str) -> tuple[NextHop, ...]:
        """The servers of the recipient's domain, or of the other address's when the same account serves it."""
        if another:
            return await delivery.hops_of(self._pool, another.rpartition("@")[2], kept.account_id)
        return await delivery.hops(self._pool, kept.domain_number, kept.account_id)

    def _letter(self, kept: Kept, recipient: str, raw: bytes) -> delivery.Letter:
        line = delivery.released_line(self._secret, kept.id, raw)
        return delivery.letter(kept.sender, recipient, raw, kept.record, line)

    def _sending(self, taken: Taken) -> delivery.OnDot:
        async def sending() -> None:
            try:
                await jobs.sending(self._pool, taken)
            except AWAY as error:
                raise NotRecorded from error

        return sending
