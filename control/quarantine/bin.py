"""The bin: deleted mail lies in it for a week, from which it can be put back; then its rows go.

Everything here takes mails by their primary keys, many at once, and says which of them it changed. Mail on hold is
never put into the bin, and never leaves the store.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from control.auth import Viewer
from control.quarantine import holds, pages, search
from control.quarantine.conditions import Where
from control.quarantine.pages import Page, Place
from control.quarantine.reading import rows
from control.quarantine.search import Item

KEPT_FOR = timedelta(days=7)
SLICE = 5_000
"""Rows that one statement removes for good."""
PURGE_WITHIN_S = 300.0
_LISTED = "id, received_at, sender, recipient, subject, reason, filter, score, node, size_bytes as size, status"
_THESE = "from unnest($1::timestamptz[], $2::text[]) as k (at, id) where q.received_at = k.at and q.id = k.id"

Key: TypeAlias = tuple[datetime, str]
"""(received_at, id) of an item."""


async def delete(connection: Any, keys: Sequence[Key]) -> set[str]:
    """Put these mails into the bin; returns the ids of those that are in it now and were not before."""
    found = await connection.fetch(
        f"update quarantine q set status = 'deleted', deleted_at = now() {_THESE}"
        f" and q.status <> 'deleted' and {holds.FREE} returning q.id",
        *_columns(keys),
    )
    return {row["id"] for row in found}


async def restore(connection: Any, keys: Sequence[Key]) -> set[str]:
    """Take these mails out of the bin; returns the ids of those that were in it.

    One that had been delivered is *released* again, every other one *kept*.
    """
    found = await connection.fetch(
        "update quarantine q set deleted_at = null, status = case when exists (select from jobs j where j.item = q.id"
        f" and j.act = 'release' and j.state = 'done') then 'released' else 'kept' end {_THESE}"
        " and q.status = 'deleted' returning q.id",
        *_columns(keys),
    )
    return {row["id"] for row in found}


async def states(connection: Any, keys: Sequence[Key]) -> dict[str, tuple[str, bool]]:
    """(status, on hold) of those that are there, by id."""
    found = await connection.fetch(
        f"select q.id, q.status, not ({holds.FREE}) as held from quarantine q, unnest($1::timestamptz[], $2::text[])"
        " as k (at, id) where q.received_at = k.at and q.id = k.id",
        *_columns(keys),
    )
    return {row["id"]: (row["status"], row["held"]) for row in found}


async def listing(pool: Any, viewer: Viewer, *, cursor: str = "", limit: int = 50) -> Page[Item]:
    """One page of what lies in the viewer's bin, newest mail first. Raises ValueError for a cursor that is none."""
    where = Where()
    where.scope(viewer, None)
    where.add("deleted_at is not null")
    where.add("status = 'deleted'")
    if cursor:
        behind = pages.place(cursor)
        where.add("(received_at, id) < ({}, {})", behind.at, behind.id)
    most = max(1, min(limit, search.LONGEST_PAGE))
    found = await rows(
        pool,
        f"select {_LISTED} from quarantine where {where.sql} order by received_at desc, id desc limit {most + 1}",
        where.values,
    )
    items = [Item(**dict(row)) for row in found[:most]]
    more = pages.cursor(Place(items[-1].received_at, items[-1].id)) if len(found) > most else None
    return Page(items, more)


async def purge(connection: Any, now: datetime) -> int:
    """Remove for good what has lain in the bin for its time; returns the number of rows. Cut, it goes on next time."""
    removed = 0
    while True:
        found = await connection.fetch(
            "delete from quarantine q using (select received_at, id from quarantine q"
            f" where q.deleted_at < $1 and {holds.FREE} limit {SLICE}) k"
            " where q.received_at = k.received_at and q.id = k.id returning q.received_at, q.txn",
            now - KEPT_FOR,
            timeout=PURGE_WITHIN_S,
        )
        await drop_records(connection, [(row["received_at"], row["txn"]) for row in found])
        removed += len(found)
        if len(found) < SLICE:
            return removed


async def drop_records(connection: Any, transactions: Sequence[Key]) -> None:
    """Remove verdicts and body words of these (received_at, transaction) of which no recipient's mail is left."""
    for table in ("mail_records", "body_words"):
        await connection.execute(
            f"delete from {table} r using unnest($1::timestamptz[], $2::text[]) as k (at, txn)"
            " where r.received_at = k.at and r.txn = k.txn and not exists"
            " (select from quarantine q where q.received_at = k.at and q.txn = k.txn)",
            *_columns(transactions),
            timeout=PURGE_WITHIN_S,
        )


def _columns(keys: Sequence[Key]) -> tuple[list[datetime], list[str]]:
    return [at for at, _ in keys], [name for _, name in keys]
