"""Gives out what an export names, mail by mail as it is read: an mbox, a table, or a zip part by part.

An export is an act over many items (`control.quarantine.bulk`) that only lists them. The list stands still, so a
download that was cut goes on: an mbox or a table after the last whole mail, a zip with the part that was cut.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from control.auth import Viewer
from control.quarantine import bulk
from control.quarantine import export_format as form
from control.quarantine.packs import BodyLost, Packs
from control.store import audit
from control.store.errors import Missing, TooLate

PART = 500
"""Mails of one zip."""
SLICE = 100
LOST = b"Subject: (the body of this mail is lost)\n\nThe body of this mail is not in the store any more.\n"
_ROWS = (
    "select i.n, q.id, q.received_at, q.sender, q.recipient, q.subject, q.reason, q.filter, q.score, q.node,"
    " host(q.client_ip) as client_ip, q.size_bytes, q.status, q.pack, q.pack_offset, q.pack_bytes"
    " from bulk_act_items i join quarantine q on q.received_at = i.received_at and q.id = i.item"
    " where i.bulk = $1 and i.n > $2 and i.n <= $3 and ($4::text is null or q.account_id = $4) order by i.n"
)


@dataclass(frozen=True, slots=True)
class Export:
    """An export whose list is complete: so many mails, so many parts of a zip."""

    id: str
    total: int

    @property
    def parts(self) -> int:
        """Zips that it takes; one for an empty export too."""
        return max(1, -(-self.total // PART))


async def opened(pool: Any, viewer: Viewer, export_id: str, form_name: str) -> Export:
    """An export that can be given out; the download is written down. Raises Missing, and TooLate while it is listed
    still, or when it was cancelled."""
    found = await bulk.get(pool, viewer, export_id)
    if found.act != "export":
        raise Missing("there is no such export")
    if found.state != "done":
        raise TooLate(f"the export is {found.state}; it can be downloaded when it is done")
    await audit.note(pool, viewer, "export", found.id, form=form_name, mails=found.total)
    return Export(found.id, found.total)


async def mbox(pool: Any, packs: Packs | None, viewer: Viewer, export: Export, after: int = 0) -> AsyncIterator[bytes]:
    """The mails behind number `after`."""
    async for row, raw in _mails(pool, packs, viewer, export, after, export.total):
        yield await asyncio.to_thread(form.mbox, row, LOST if raw is None else raw, export.id)


async def table(pool: Any, viewer: Viewer, export: Export, after: int = 0) -> AsyncIterator[bytes]:
    """Everything but the bodies, as CSV; from its beginning with a first line of names."""
    if after <= 0:
        yield form.head()
    async for rows in _slices(pool, viewer, export, after, export.total):
        yield b"".join(form.line({**row, "body": "stored" if row["pack"] else "lost"}) for row in rows)


async def archive(pool: Any, packs: Packs | None, viewer: Viewer, export: Export, part: int) -> AsyncIterator[bytes]:
    """One part as a zip: the exact bytes of each mail, and the table of them. Raises Missing for a part beyond."""
    zipped, lines = form.ZipStream(), [form.head()]
    async for row, raw in _mails(pool, packs, viewer, export, (part - 1) * PART, part * PART):
        lines.append(form.line({**row, "body": "lost" if raw is None else "stored"}))
        if raw is not None:
            yield await asyncio.to_thread(zipped.add, form.file_name(row), raw, row["received_at"])
    yield zipped.add("mails.csv", b"".join(lines), datetime.now(UTC)) + zipped.end()


async def _mails(
    pool: Any, packs: Packs | None, viewer: Viewer, export: Export, after: int, last: int
) -> AsyncIterator[tuple[dict[str, Any], bytes | None]]:
    """Each with its bytes; None for a body that is lost. Raises BodyAway: better a cut download than one that lacks
    mail without a word."""
    async for rows in _slices(pool, viewer, export, after, last):
        for row in rows:
            yield row, await _body(packs, row)


async def _body(packs: Packs | None, row: dict[str, Any]) -> bytes | None:
    if packs is None or not row["pack"]:
        return None
    try:
        return await packs.read(row["pack"], row["pack_offset"], row["pack_bytes"])
    except BodyLost as error:
        if type(error) is not BodyLost:
            raise
        return None


async def _slices(
    pool: Any, viewer: Viewer, export: Export, after: int, last: int
) -> AsyncIterator[list[dict[str, Any]]]:
    begin = max(0, after)
    while begin < min(last, export.total):
        end = min(begin + SLICE, last)
        yield [dict(row) for row in await pool.fetch(_ROWS, export.id, begin, end, viewer.account_id)]
        begin = end
