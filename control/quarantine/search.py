"""Finds kept mail: newest first, by the terms of the grammar, addresses, reason, domain and time, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from control.auth import Viewer
from control.quarantine import bodies, grammar, pages, terms, words
from control.quarantine.bodies import Lag
from control.quarantine.conditions import Where, domain_name
from control.quarantine.grammar import Term
from control.quarantine.pages import Page, Place
from control.quarantine.terms import Span
from control.quarantine.walk import Walked, walk

LONGEST_PAGE = 500
EVER = Span(datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))
BEFORE_ALL_IDS = "0"
NOBODYS = -1
"""A number that no domain has."""
COLUMNS = (
    "q.id, q.received_at, q.sender, q.recipient, q.subject, q.reason, q.filter, q.score, q.node, q.size_bytes as size,"
    " q.status"
)


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; everything given has to fit.

    `q` is a text of `control.quarantine.grammar`, or an id; `sender` and `recipient` those of
    `control.quarantine.conditions.address`; `reason` a reason or a filter's name; `until` is not part of the span.
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


@dataclass(frozen=True, slots=True)
class Found(Page[Item]):
    """A page of items.

    `reached`, when set, is how far back was looked before the time ran out: `next` goes on from there. `lag` is how
    far the index of bodies is behind, when the search asked it.
    """

    reached: datetime | None = None
    lag: Lag | None = None


async def search(pool: Any, viewer: Viewer, query: Query) -> Found:
    """One page of the viewer's kept mail.

    Raises ValueError, in words for the person who asks: for a cursor that is none, for terms that cannot be read
    (grammar.Wrong), and (TooSlow) for a search that takes too long.
    """
    limit = max(1, min(query.limit, LONGEST_PAGE))
    asked = grammar.parse(query.q or "")
    if (query.q or "").strip() and not asked:
        return Found([], None)  # signs alone: there is no word to find
    found = await _walk(pool, viewer, query, asked, COLUMNS, limit + 1)
    items = [Item(**dict(row)) for row in found.rows[:limit]]
    lag = await bodies.lag(pool) if terms.needs_bodies(asked) else None
    return Found(items, _next(items, found, limit), found.reached, lag)


async def walk_query(pool: Any, viewer: Viewer, query: Query, columns: str, most: int) -> Walked:
    """The newest `most` rows that fit, with these columns of `q`; raises as `search` does."""
    return await _walk(pool, viewer, query, grammar.parse(query.q or ""), columns, most)


async def _walk(pool: Any, viewer: Viewer, query: Query, asked: Sequence[Term], columns: str, most: int) -> Walked:
    behind = pages.place(query.cursor) if query.cursor else None
    number = await _number(pool, viewer, query.domain) if query.domain is not None else None

    def branches(values: list[Any], span: Span) -> list[Where]:
        made = []
        for way in terms.ways(asked):
            where = Where(values)
            where.span(span.since, span.until)
            if behind:
                where.add("(q.received_at, q.id) < ({}, {})", behind.at, behind.id)
            _narrow(where, viewer, query, number)
            way(where, span)
            terms.narrow(where, span, asked)
            made.append(where)
        return made

    at_once = not asked and query.sender is None and query.recipient is None and query.reason is None
    if not any(term.name == "is" and not term.is_negated for term in asked):
        asked = (*asked, Term("is", "deleted", is_negated=True))
    return await walk(pool, columns, branches, most, _whole(query, asked, behind), at_once=at_once)


def _whole(query: Query, asked: Sequence[Term], behind: Place | None) -> Span:
    """The times that anything that fits can have."""
    after = [term.value for term in asked if term.name == "after" and not term.is_negated]
    before = [term.value for term in asked if term.name == "before" and not term.is_negated]
    end = [min(behind.at, EVER.until) + timedelta(microseconds=1)] if behind else []
    return Span(max([query.since or EVER.since, *after]), min([query.until or EVER.until, *before, *end]))


async def _number(pool: Any, viewer: Viewer, domain: str) -> int:
    """The number of a domain; one that none has for what is not served, or is another's.

    Asked beforehand: PostgreSQL plans by how much mail this very domain has, which it cannot with a subquery.
    """
    found: int | None = await pool.fetchval(
        "select number from domains where name = $1 and ($2::text is null or account_id = $2)",
        domain_name(domain),
        viewer.account_id,
    )
    return NOBODYS if found is None else found


def _narrow(where: Where, viewer: Viewer, query: Query, number: int | None) -> None:
    """Add what the parameters beside the terms ask."""
    where.scope(viewer, None)
    if number is not None:
        where.add("q.domain = {}", number)
    for column, typed in (("q.sender", query.sender), ("q.recipient", query.recipient)):
        if typed is not None:
            terms.near_address(where, column, typed)
            where.address(column, typed)
    if query.reason is not None:
        where.add("{} in (q.reason, q.filter)", words.clean(query.reason))


def _next(items: Sequence[Item], found: Walked, limit: int) -> str | None:
    if len(found.rows) > limit:
        return pages.cursor(Place(items[-1].received_at, items[-1].id))
    return pages.cursor(Place(found.reached, BEFORE_ALL_IDS)) if found.reached else None
