"""What a receiver holds goes into packs and PostgreSQL: each record once, or set aside where an operator sees it.

One transaction a batch, and in it everything: rows, roll-ups, later mail, the packs' table, and the positions that are
stored from then on. Bodies are on the disk before it commits. A record that comes again is known by its position; one
that comes under another position, by the ids of its rows.
"""

import asyncio
import errno
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from control.quarantine import owners, packs, partitions, rows, store_rows, withdrawing
from control.quarantine.frames import MAX_BODY_BYTES
from control.quarantine.owners import Owners
from control.quarantine.pack_writer import Batch, PackWriter
from control.quarantine.packs import NOWHERE, Place
from control.quarantine.rows import Unreadable
from control.quarantine.session import Session, Unfit
from control.quarantine.store_rows import Poison, Rows
from monitoring import log
from monitoring.metrics import control as metrics
from syncd.spool.record import Kind, Record
from syncd.spool.stream import Held, NotNow, Ranges, Stream

TRIES = 3
"""Of a record by itself, before it is set aside."""
POISON_DAYS = packs.CLASSES[-1]
"""Retention class of the bodies of what was set aside."""
_UNREADABLE_FOR_GOOD = (errno.EIO, errno.ENOENT, errno.ESTALE)
"""What a disk says of data that it will not have later either; all else (no descriptors, no memory) passes."""

_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class _Mail:
    """One record of a batch, read; or the reason why it cannot be."""

    held: Held
    record: Record | None
    at: datetime
    error: str = ""

    @property
    def position(self) -> tuple[Stream, int]:
        return self.held.stream, self.held.position


class Ingest:
    """The quarantine as a receiver's `Stores`."""

    def __init__(self, session: Session, writer: PackWriter) -> None:
        self._session, self._writer = session, writer
        self._days: set[date] = set()
        """Days whose partitions were seen."""
        self._packed: dict[tuple[Stream, int], tuple[Place, bytes]] = {}
        """Bodies (place, SHA-256) in packs whose rows are not committed: a second try does not write them again."""
        self.trouble = "nothing was stored yet"
        """Why nothing can be stored now; "" while it can."""

    async def stored(self, stream: Stream) -> Ranges:
        """See `Stores.stored`."""
        async with self._session.transaction() as connection:
            return await store_rows.stored(connection, stream)

    async def store(self, batch: Sequence[Held]) -> None:
        """See `Stores.store`."""
        try:
            with metrics.ingest_seconds.time():
                await self._store(batch)
        except NotNow as error:
            self.trouble = str(error)
            raise
        self.trouble = ""

    async def withdraw(self, stream: Stream, ranges: Ranges) -> None:
        """See `Stores.withdraw`."""
        try:
            async with self._session.transaction() as connection:
                await withdrawing.withdraw(connection, stream, ranges)
        except Unfit as error:
            raise NotNow(str(error)) from error

    async def keep_ahead(self) -> None:
        """Have the partitions of the days around this one, and drop what need not be known any more. Raises NotNow."""
        try:
            self._days.clear()
            await self._have_partitions(partitions.ahead(packs.today()))
            async with self._session.transaction() as connection:
                await withdrawing.forget(connection)
        except NotNow as error:
            self.trouble = str(error)
            raise
        self.trouble = ""

    async def _store(self, batch: Sequence[Held]) -> None:
        """Store a batch; where something in it is unfit, its halves, so that the others do not wait for it."""
        try:
            await self._commit(batch)
        except Unfit as error:
            self._days.clear()
            if len(batch) == 1:
                await self._store_alone(batch[0], error)
                return
            middle = len(batch) // 2
            await self._store(batch[:middle])
            await self._store(batch[middle:])

    async def _store_alone(self, held: Held, error: Unfit) -> None:
        for _ in range(TRIES - 1):
            try:
                return await self._commit([held])
            except Unfit as again:
                error = again
        try:
            await self._commit([held], str(error))
        except Unfit as beyond:
            raise NotNow(f"a record can neither be stored nor set aside: {beyond}") from beyond

    async def _commit(self, batch: Sequence[Held], error: str = "") -> None:
        """Store a batch in one transaction; with `error`, set it aside. Raises Unfit, NotNow."""
        mails = await asyncio.to_thread(_read_all, batch, error)
        await self._have_partitions({mail.at.date() for mail in mails})
        async with self._session.transaction() as connection:
            known = await store_rows.known(connection, batch)
            fresh = [mail for index, mail in enumerate(mails) if index not in known]
            if fresh:
                whose = await owners.load(connection, _domains(fresh))
                found = await asyncio.to_thread(self._pack, fresh, whose)
                await store_rows.write(connection, found, [mail.held for mail in fresh], self._writer.press)
                await withdrawing.place(connection, [(mail.held, mail.record, mail.at) for mail in fresh])
        for mail in mails:
            self._packed.pop(mail.position, None)
        _count(fresh)

    async def _have_partitions(self, days: Iterable[date]) -> None:
        if missing := set(days) - self._days:
            async with self._session.transaction() as connection:
                await partitions.make(connection, missing)
            self._days |= missing

    def _pack(self, mails: Sequence[_Mail], whose: Owners) -> Rows:
        """Put the bodies into packs and make the rows that point to them. Blocks. Raises NotNow."""
        try:
            packed: dict[tuple[Stream, int], tuple[Place, bytes]] = {}
            with self._writer.batch() as batch:
                for mail in mails:
                    if mail.position not in self._packed and (days := _days_kept(mail, whose)):
                        packed[mail.position] = _add(batch, mail, days)
        except OSError as error:
            raise NotNow(f"packs: {error}") from error
        self._packed |= packed
        found = Rows()
        for mail in mails:
            self._make_rows(found, mail, whose)
        return found

    def _make_rows(self, found: Rows, mail: _Mail, whose: Owners) -> None:
        place, digest = self._packed.get(mail.position, (NOWHERE, b""))
        if place.pack:
            found.places.append(place)
        record, at, press = mail.record, mail.at, self._writer.press
        if record is None:
            found.poison.append(Poison(mail.held, mail.error, place))
            return
        addressed = [(each, whose.of(each.domain, each.account)) for each in record.recipients]
        found.messages += rows.tracking(record, at, addressed, press)
        wanted = [(each, whose.of(each.domain, each.account)) for each in rows.bodied(record)]
        if record.kind is Kind.KEPT and wanted:
            found.quarantine += rows.kept(record, at, wanted, place, digest)
            found.add_record(at, record)
        elif record.kind is Kind.LATER and wanted:
            found.later += rows.later(record, at, wanted, place, press.text(mail.held.header))


def _read_all(batch: Sequence[Held], error: str) -> list[_Mail]:
    now = datetime.now(UTC)
    return [_read(held, error, now) for held in batch]


def _read(held: Held, error: str, now: datetime) -> _Mail:
    if error:
        return _Mail(held, None, now, error)
    try:
        record = rows.decode(held.header)
        return _Mail(held, record, partitions.received_at(record.id, now))
    except (Unreadable, ValueError) as unreadable:
        return _Mail(held, None, now, str(unreadable))


def _domains(mails: Iterable[_Mail]) -> set[str]:
    return {each.domain for mail in mails if mail.record for each in mail.record.recipients if "\0" not in each.domain}


def _days_kept(mail: _Mail, whose: Owners) -> int:
    """The retention class of the body: that of the recipient who keeps it longest; 0 when nobody needs it."""
    if mail.record is None:
        return POISON_DAYS
    days = [whose.of(each.domain, each.account).days for each in rows.bodied(mail.record)]
    return packs.class_of(max(days)) if days else 0


def _add(batch: Batch, mail: _Mail, days: int) -> tuple[Place, bytes]:
    """Put one body into a pack. Raises OSError for what may pass.

    A body that is damaged for good is lost, which its item says; all else of the mail is stored.
    """
    txn = mail.record.id if mail.record else ""
    body = _body(mail.held, txn)
    if body is None:
        return NOWHERE, b""
    return batch.add(mail.at.date(), days, txn, body), hashlib.sha256(body).digest()


def _body(held: Held, txn: str) -> bytes | None:
    try:
        body = held.read_body()
        if len(body) <= MAX_BODY_BYTES:
            return body
        reason = f"{len(body)} bytes are more than a pack takes"
    except ValueError as error:
        reason = str(error)
    except OSError as error:
        if error.errno not in _UNREADABLE_FOR_GOOD:
            raise
        reason = str(error)
    metrics.bodies_lost.inc()
    _log.error("body_lost", id=txn, error=reason)
    return None


def _count(fresh: Iterable[_Mail]) -> None:
    for mail in fresh:
        metrics.receiver_stored.inc()
        if mail.record:
            metrics.receiver_records.labels(mail.record.kind.value).inc()
        else:
            metrics.receiver_poison.inc()
            stream = mail.held.stream
            _log.error(
                "record_set_aside", node=stream.node, epoch=stream.epoch, position=mail.held.position, error=mail.error
            )
