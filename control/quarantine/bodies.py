"""The index of bodies follows the mail: words of each kept body into `body_words`, in the order of the queue.

The janitor does it, not the receiver: a body that takes long to read then delays no acknowledgement, the janitor's
lock already lets one process work of several, and reading packs needs nothing that the receiver has. A mail leaves
the queue in the transaction that writes its words, so that a crash leaves it to be done again.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg

from control.quarantine.extracting import Extractor
from control.quarantine.packs import BodyAway, BodyLost, Packs
from monitoring import log
from monitoring.metrics import control as metrics

BATCH = 128
READS_AT_ONCE = 16
WITHIN_S = 30.0
"""For the statements of one batch, each."""
UNFIT = (asyncpg.DataError, asyncpg.ProgramLimitExceededError, asyncpg.IntegrityConstraintViolationError)
"""What PostgreSQL says when a mail's words, or its day, cannot be."""
_log = log.get(__name__)

_FIRST = (
    "select w.number, w.received_at, w.txn, w.queued_at, q.pack, q.pack_offset, q.pack_bytes"
    " from (select * from body_queue order by number limit $1) w left join lateral"
    " (select pack, pack_offset, pack_bytes from quarantine q where q.received_at = w.received_at and q.txn = w.txn"
    " order by pack = '' limit 1) q on true"
)
# The recipient's words only where there is one recipient: another's could be a different customer's.
_WRITE = (
    "insert into body_words (received_at, txn, words)"
    " select received_at, txn, setweight(case when count(*) = 1 then (array_agg(q.words))[1]"
    " else ts_filter((array_agg(q.words))[1], '{a,b,d}') end, 'A') || to_tsvector('simple', read.body)"
    " from unnest($1::timestamptz[], $2::text[], $3::text[]) as read (received_at, txn, body)"
    " join quarantine q using (received_at, txn) group by received_at, txn, read.body"
    " on conflict (received_at, txn) do nothing"
)
_DONE = "delete from body_queue where number = any($1::bigint[])"
_LAG = (
    "select extract(epoch from now() - (select queued_at from body_queue order by number limit 1))::float8 as seconds,"
    " (select number from body_queue order by number desc limit 1)"
    " - (select number from body_queue order by number limit 1) + 1 as mails"
)


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the index of bodies is behind: mails that wait, and the seconds that the first of them has waited."""

    mails: int = 0
    seconds: float = 0.0


async def lag(pool: Any) -> Lag:
    """How far the index is behind. Raises asyncpg's errors when the server is away."""
    row = await pool.fetchrow(_LAG)
    return Lag(row["mails"] or 0, max(0.0, row["seconds"] or 0.0))


class Following:
    """Reads bodies and writes their words, batch by batch."""

    def __init__(self, pool: Any, place: Packs, extractor: Extractor) -> None:
        self._pool, self._packs, self._extractor = pool, place, extractor

    async def one(self) -> bool:
        """Do one batch; False when nothing waits, or its bodies cannot be had now. Raises asyncpg's errors."""
        found = await self._pool.fetch(_FIRST, BATCH)
        if not found:
            metrics.bodies_lag.set(0)
            return False
        metrics.bodies_lag.set(max(0.0, (datetime.now(UTC) - found[0]["queued_at"]).total_seconds()))
        try:
            bodies = await self._read([row for row in found if row["pack"] is not None])
        except BodyAway as error:
            _log.warning("bodies_away", error=str(error))
            return False
        try:
            await self._write(found, bodies)
        except UNFIT as error:
            await self._write_apart(found, bodies, error)
        return True

    async def close(self) -> None:
        """End the child that reads."""
        await self._extractor.close()

    async def _read(self, found: Sequence[Any]) -> list[str]:
        """The words of these mails, in their order. Raises BodyAway."""
        turns = asyncio.Semaphore(READS_AT_ONCE)

        async def raw(row: Any) -> bytes:
            async with turns:
                try:
                    return await self._packs.read(row["pack"], row["pack_offset"], row["pack_bytes"])
                except BodyAway:
                    raise
                except BodyLost:
                    return b""

        mails = await asyncio.gather(*(raw(row) for row in found))
        return [
            await self._extractor.words(row["txn"], mail) if mail else ""
            for row, mail in zip(found, mails, strict=True)
        ]

    async def _write_apart(self, found: Sequence[Any], bodies: Sequence[str], error: Exception) -> None:
        """Each mail by itself; one that is still refused by its header alone, so that it holds up no other."""
        _log.warning("bodies_refused", error=str(error))
        left = iter(bodies)
        for row in found:
            body = [next(left)] if row["pack"] is not None else []
            try:
                await self._write([row], body)
            except UNFIT:
                metrics.bodies_unread.inc()
                await self._write([row], [""] * len(body))

    async def _write(self, found: Sequence[Any], bodies: Sequence[str]) -> None:
        kept = [row for row in found if row["pack"] is not None]
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                _WRITE,
                [row["received_at"] for row in kept],
                [row["txn"] for row in kept],
                bodies,
                timeout=WITHIN_S,
            )
            await connection.execute(_DONE, [row["number"] for row in found], timeout=WITHIN_S)
        metrics.bodies_indexed.inc(len(kept))
