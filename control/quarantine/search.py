"""Finds kept mail: newest first, by words, addresses, reason, domain and time, page by page."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from control.auth import Viewer
from control.quarantine import pages, words
from control.quarantine.conditions import Where, is_id
from control.quarantine.pages import Page, Place
from control.quarantine.reading import TooSlow, rows

LONGEST_PAGE = 500
COUNT_WITHIN_S = 1.5
"""Counts are a comfort: rather none than a page that waits for them."""
_COLUMNS = "id, received_at, sender, recipient, subject, reason, filter, score, node, size_bytes as size, status"


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; everything given has to fit.

    `q` is the words of `control.quarantine.words.tsquery`, or an id; `sender` and `recipient` those of
    `Where.address`; `reason` a reason or a filter's name; `until` is not part of the span.
    """

    domain: str | None = None
    q: str | None = None
    sender: str | None = None
    recipient: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One kept mail of one recipient; `size` in bytes."""

    id: str
    received_at: datetime
    sender: str
    recipient: str
    subject: str
    reason: str
    filter: str
    score: float
    node: str
    size: int
    status: str


async def search(pool: Any, viewer: Viewer, query: Query) -> Page[Item]:
    """One page of the viewer's kept mail.

    Raises ValueError, in words for the person who asks, for a cursor that is none, for too many words, and (TooSlow)
    for a search that takes too long.
    """
    where = _where(viewer, query)
    if query.cursor:
        behind = pages.place(query.cursor)
        where.add("received_at <= {}", behind.at)  # said again, because it is this form that leaves days untouched
        where.add("(received_at, id) < ({}, {})", behind.at, behind.id)
    limit = max(1, min(query.limit, LONGEST_PAGE))
    found = await rows(
        pool,
        f"select {_COLUMNS} from quarantine where {where.sql} order by received_at desc, id desc limit {limit + 1}",
        where.values,
    )
    items = [Item(**dict(row)) for row in found[:limit]]
    more = pages.cursor(Place(items[-1].received_at, items[-1].id)) if len(found) > limit else None
    return Page(items, more)


async def reasons(pool: Any, viewer: Viewer, query: Query) -> dict[str, int]:
    """How much of what fits was kept for each reason, whatever reason the query names; {} if counting takes too long.

    Raises ValueError as `search` does.
    """
    where = _where(viewer, replace(query, reason=None))
    sql = f"select reason, count(*) as mails from quarantine where {where.sql} group by reason order by 2 desc, 1"
    try:
        found = await rows(pool, sql, where.values, within_s=COUNT_WITHIN_S)
    except TooSlow:
        return {}
    return {row["reason"]: row["mails"] for row in found}


def _where(viewer: Viewer, query: Query) -> Where:
    where = Where()
    where.scope(viewer, query.domain)
    where.span(query.since, query.until)
    where.add("status <> 'deleted'")
    where.address("sender", query.sender)
    where.address("recipient", query.recipient)
    if query.reason is not None:
        reason = words.clean(query.reason)
        where.add("(reason = {} or filter = {})", reason, reason)
    if query.q is not None and query.q.strip():
        _words(where, query.q.strip())
    return where


def _words(where: Where, typed: str) -> None:
    if is_id(typed.upper()):
        txn, _, number = typed.upper().partition(".")
        where.near(txn)
        where.add("id = {}" if number else "txn = {}", typed.upper())
        return
    query = words.tsquery(typed)
    # Without a word there is nothing to find; an empty tsquery says the same, with a notice in the server's log.
    where.add("words @@ to_tsquery('simple', {})", query) if query else where.add("false")
