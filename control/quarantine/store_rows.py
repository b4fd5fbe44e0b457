"""Writes a batch's rows, inside the transaction of the caller: each once, and counted only when it is new."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from control.quarantine import packs, rows
from control.quarantine.frames import Damaged, Press, expanded
from control.quarantine.packs import Place
from control.quarantine.rows import Row
from control.quarantine.session import copy
from syncd.spool.record import Record
from syncd.spool.stream import Held, Ranges, Stream

_LOCK = "select pg_advisory_xact_lock(hashtextextended('ingest', 0))"
_KNOWN = (
    "select at.number from unnest($1::text[], $2::text[], $3::bigint[]) with ordinality"
    " as at (node, epoch, position, number) join stored_ranges s using (node, epoch) where s.ranges @> at.position"
)
_REMEMBER = (
    "insert into stored_ranges as s (node, epoch, ranges)"
    " select node, epoch, range_agg(int8range(position, position, '[]'))"
    " from unnest($1::text[], $2::text[], $3::bigint[]) as at (node, epoch, position) group by node, epoch"
    " on conflict (node, epoch) do update set ranges = s.ranges + excluded.ranges"
)
_MESSAGES = (
    f"with fresh as (insert into messages ({', '.join(rows.MESSAGES)}) select * from in_messages on conflict do nothing"
    " returning received_at, domain, outcome, reason, size_bytes)"
    " insert into rollups as r (day, domain, outcome, reason, mails, bytes)"
    " select (received_at at time zone 'utc')::date as day, domain, outcome, reason, count(*), sum(size_bytes)"
    " from fresh group by 1, 2, 3, 4"
    " on conflict (day, domain, outcome, reason)"
    " do update set mails = r.mails + excluded.mails, bytes = r.bytes + excluded.bytes"
)
_QUARANTINE = (
    f"insert into quarantine ({', '.join(rows.QUARANTINE)})"
    f" select {', '.join(rows.QUARANTINE[:-1])}, header_words(words) from in_quarantine on conflict do nothing"
)
_LATER = (
    f"insert into later ({', '.join(rows.LATER)}) select {', '.join(rows.LATER)} from in_later on conflict do nothing"
)
_RECORDS = (
    "insert into mail_records (received_at, txn, record)"
    " select * from unnest($1::timestamptz[], $2::text[], $3::bytea[]) on conflict do nothing returning txn"
)
_PACKS = (
    "insert into packs as p (name, day, class, bytes, mails)"
    " select * from unnest($1::text[], $2::date[], $3::text[], $4::bigint[], $5::integer[])"
    " on conflict (name) do update set bytes = p.bytes + excluded.bytes, mails = p.mails + excluded.mails"
)
_POISON = (
    "insert into poison (id, node, error, record, pack, pack_offset, pack_bytes)"
    " values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing"
)


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that is set aside: as it came, and why."""

    held: Held
    error: str
    place: Place


@dataclass(slots=True)
class Rows:
    """Everything that a batch leaves in PostgreSQL but for its positions."""

    quarantine: list[Row] = field(default_factory=list)
    messages: list[Row] = field(default_factory=list)
    later: list[Row] = field(default_factory=list)
    records: dict[tuple[datetime, str], Record] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    poison: list[Poison] = field(default_factory=list)

    def add_record(self, at: datetime, record: Record) -> None:
        """Keep a transaction's record; what a second one tells of other recipients goes into the first."""
        first = self.records.get((at, record.id))
        self.records[at, record.id] = rows.merged(first, record) if first else record


async def known(connection: Any, batch: Sequence[Held]) -> set[int]:
    """Indexes of the records whose positions were stored before. From here to commit nobody else stores anything."""
    await connection.execute(_LOCK)
    found = await connection.fetch(_KNOWN, *_columns(batch))
    return {row["number"] - 1 for row in found}


async def stored(connection: Any, stream: Stream) -> Ranges:
    """The positions of a stream that were ever stored."""
    ranges = await connection.fetchval(
        "select ranges from stored_ranges where node = $1 and epoch = $2", _name(stream.node), _name(stream.epoch)
    )
    return tuple((each.lower, each.upper - 1) for each in ranges or ())


async def write(connection: Any, found: Rows, batch: Sequence[Held], press: Press) -> None:
    """Write a batch's rows, and its positions as stored."""
    if found.messages:
        await copy(connection, "messages", rows.MESSAGES, found.messages)
        await connection.fetch(_MESSAGES)
    if found.quarantine:
        await copy(connection, "quarantine", rows.QUARANTINE, found.quarantine)
        await connection.fetch(_QUARANTINE)
        await _write_records(connection, found.records, press)
    if found.later:
        await copy(connection, "later", rows.LATER, found.later)
        await connection.fetch(_LATER)
    await _write_packs(connection, found.places)
    for each in found.poison:
        await _set_aside(connection, each)
    await connection.execute(_REMEMBER, *_columns(batch))


async def _write_records(connection: Any, records: dict[tuple[datetime, str], Record], press: Press) -> None:
    packed = [press.text(msgspec.json.encode(record)) for record in records.values()]
    made = await connection.fetch(_RECORDS, [at for at, _ in records], [txn for _, txn in records], packed)
    fresh = {row["txn"] for row in made}
    for (at, txn), record in records.items():
        if txn not in fresh:
            await _merge_record(connection, at, record, press)


async def _merge_record(connection: Any, at: datetime, record: Record, press: Press) -> None:
    """A transaction whose first copy was stored earlier: the second one tells of other recipients."""
    place = "received_at = $1 and txn = $2"
    there = await connection.fetchval(f"select record from mail_records where {place}", at, record.id)
    try:
        first = msgspec.json.decode(expanded(there), type=Record)
    except (Damaged, msgspec.DecodeError):
        first = record
    whole = press.text(msgspec.json.encode(rows.merged(first, record)))
    await connection.execute(f"update mail_records set record = $3 where {place}", at, record.id, whole)


async def _write_packs(connection: Any, places: Sequence[Place]) -> None:
    size, mails = Counter[str](), Counter[str]()
    for place in places:
        size[place.pack] += place.size
        mails[place.pack] += 1
    if names := list(size):
        days = [packs.day_of(name) for name in names]
        classes = [str(packs.days_kept(name)) for name in names]
        await connection.execute(_PACKS, names, days, classes, list(size.values()), [mails[name] for name in names])


async def _set_aside(connection: Any, poison: Poison) -> None:
    stream, place = poison.held.stream, poison.place
    await connection.execute(
        _POISON,
        f"{_name(stream.node)}.{_name(stream.epoch)}.{poison.held.position}",
        _name(stream.node),
        rows.text(poison.error, rows.LINE),
        poison.held.header,
        place.pack,
        place.offset,
        place.size,
    )


def _columns(batch: Sequence[Held]) -> tuple[list[str], list[str], list[int]]:
    return (
        [_name(each.stream.node) for each in batch],
        [_name(each.stream.epoch) for each in batch],
        [each.position for each in batch],
    )


def _name(text: str) -> str:
    return rows.text(text, rows.ADDRESS)
