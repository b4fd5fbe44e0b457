"""Takes back what was stored of records that a node withdrew: their senders heard 451 and send the mail again.

Which rows a position became stands in `placed` for a day. What somebody has begun to release stays: the owner has it,
or will have it, and twice is better than never.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from control.quarantine import rows, store_rows
from monitoring import log
from syncd.spool.record import Kind, Record
from syncd.spool.stream import Held, Ranges, Stream

LAST = 2**63 - 2
"""The last position that a range in PostgreSQL can name; a node may say anything."""
DAYS = 1
"""How long it is known which rows a position became; later nothing but the position is withdrawn."""

_PLACE = (
    "insert into placed (node, epoch, position, n, txn, received_at)"
    " select * from unnest($1::text[], $2::text[], $3::bigint[], $4::smallint[], $5::text[], $6::timestamptz[])"
    " on conflict do nothing"
)
_TAKE = (
    "delete from placed where node = $1 and epoch = $2 and $3::text::int8multirange @> position"
    " returning received_at, txn, n, txn || '.' || n as id"
)
_KEPT = (
    "delete from quarantine q using unnest($1::timestamptz[], $2::text[]) as gone (received_at, id)"
    " where q.received_at = gone.received_at and q.id = gone.id and q.status <> 'released'"
    " and not exists (select from jobs j where j.item = q.id and j.act = 'release' and j.state <> 'cancelled')"
    " returning q.id"
)
_LATER = "delete from later where id = any($1::text[]) and state = 'waiting' and attempts = 0 returning id"
_RECORDS = (
    "delete from mail_records r using unnest($1::timestamptz[], $2::text[]) as gone (received_at, txn)"
    " where r.received_at = gone.received_at and r.txn = gone.txn and not exists"
    " (select from quarantine q where q.received_at = r.received_at and q.txn = r.txn)"
)
_DEFERRED = (
    "with old as (select m.received_at, m.txn, m.n, m.domain, m.outcome, m.reason, m.size_bytes from messages m"
    " join unnest($1::timestamptz[], $2::text[], $3::smallint[]) as gone (received_at, txn, n)"
    " using (received_at, txn, n) where m.outcome in ('kept', 'later')),"
    " changed as (update messages m set outcome = 'deferred' from old"
    " where m.received_at = old.received_at and m.txn = old.txn and m.n = old.n)"
    " insert into rollups as r (day, domain, outcome, reason, mails, bytes)"
    " select (received_at at time zone 'utc')::date, domain, became.outcome, reason, sum(sign), sum(sign * size_bytes)"
    " from old, lateral (values (old.outcome, -1), ('deferred', 1)) as became (outcome, sign) group by 1, 2, 3, 4"
    " on conflict (day, domain, outcome, reason)"
    " do update set mails = r.mails + excluded.mails, bytes = r.bytes + excluded.bytes"
)
_NO_FIGURES = "delete from rollups where mails = 0 and day >= (now() at time zone 'utc')::date - $1::integer"
_SETTLE = (
    "insert into stored_ranges as s (node, epoch, ranges) values ($1, $2, $3::text::int8multirange)"
    " on conflict (node, epoch) do update set ranges = s.ranges + excluded.ranges"
)

_log = log.get(__name__)


async def place(connection: Any, stored: Iterable[tuple[Held, Record | None, datetime]]) -> None:
    """Note which rows the positions of some records became."""
    made = [
        (rows.text(held.stream.node, rows.ADDRESS), rows.text(held.stream.epoch, rows.ADDRESS), held.position, each.n,
         record.id, at)
        for held, record, at in stored if record and record.kind is not Kind.EVENT
        for each in rows.bodied(record)
    ]  # fmt: skip
    if made:
        await connection.execute(_PLACE, *map(list, zip(*made, strict=True)))


async def withdraw(connection: Any, stream: Stream, ranges: Ranges) -> None:
    """Remove the rows that these positions became, and have them count as stored from here on: they never come."""
    await store_rows.known(connection, ())  # for its lock: nobody stores anything meanwhile
    spelled = ",".join(f"[{first},{min(last, LAST)}]" for first, last in ranges if first <= LAST)
    where = stream.node, stream.epoch, f"{{{spelled}}}"
    found = await connection.fetch(_TAKE, *where)
    await connection.execute(_SETTLE, *where)
    times, ids = [row["received_at"] for row in found], [row["id"] for row in found]
    gone = {row["id"] for row in await connection.fetch(_KEPT, times, ids)}
    gone |= {row["id"] for row in await connection.fetch(_LATER, ids)}
    taken = [row for row in found if row["id"] in gone]
    if not taken:
        return
    of = [row["received_at"] for row in taken], [row["txn"] for row in taken]
    await connection.execute(_RECORDS, *of)
    await connection.execute(_DEFERRED, *of, [row["n"] for row in taken])
    await connection.execute(_NO_FIGURES, DAYS + 1)
    _log.info("withdrawn", ids=sorted(gone))


async def forget(connection: Any) -> None:
    """Drop what is older than `DAYS`."""
    await connection.execute("delete from placed where at < now() - $1::integer * interval '1 day'", DAYS)
