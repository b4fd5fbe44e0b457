"""Follows mail: what became of every transaction's recipients, delivered ones included, on whichever node."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from control.auth import Viewer
from control.quarantine import pages, records, words
from control.quarantine.conditions import Where, is_id
from control.quarantine.grammar import MOST_TERMS
from control.quarantine.pages import Page, Place
from control.quarantine.reading import rows
from syncd.spool.record import Judgement

LONGEST_PAGE = 500
MOST_RECIPIENTS = 10_000
_COLUMNS = "txn, n, received_at, sender, recipient, subject, outcome, reason, node"
_ALL = (
    _COLUMNS + ", message_id, text, reply, score, host(client_ip) as client_ip, helo, tls, size_bytes, revision,"
    " next_hop, judgements"
)
_SEARCHED = "lower(subject || ' ' || sender || ' ' || recipient || ' ' || message_id)"


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; everything given has to fit.

    `q` is an id, or pieces of subject, addresses or Message-ID, each of which has to be there; `sender` and
    `recipient` are those of `Where.address`; `until` is not part of the span.
    """

    domain: str | None = None
    q: str | None = None
    sender: str | None = None
    recipient: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One recipient of one transaction; `id` is the transaction's."""

    id: str
    n: int
    received_at: datetime
    sender: str
    recipient: str
    subject: str
    outcome: str
    reason: str
    node: str


@dataclass(frozen=True, slots=True)
class Recipient:
    """What became of one recipient; with the transaction's id, `n` names its quarantine item."""

    n: int
    recipient: str
    outcome: str
    reason: str
    text: str
    reply: str
    score: float
    next_hop: str
    revision: int
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """One transaction, with those of its recipients that the viewer may see."""

    id: str
    received_at: datetime
    node: str
    sender: str
    subject: str
    recipients: tuple[Recipient, ...]
    client_ip: str
    helo: str
    tls: str
    message_id: str
    size: int


async def search(pool: Any, viewer: Viewer, query: Query) -> Page[Row]:
    """One page of the viewer's recipients. Raises ValueError, in words, as `control.quarantine.search.search` does."""
    where = _where(viewer, query)
    if query.cursor:
        behind = pages.place(query.cursor)
        txn, _, number = behind.id.partition(".")
        if not number.isdecimal() or len(number) > 4:
            raise ValueError(pages.NO_CURSOR)
        where.add("received_at <= {}", behind.at)  # said again, because it is this form that leaves days untouched
        where.add("(received_at, txn, n) < ({}, {}, {})", behind.at, txn, int(number))
    limit = max(1, min(query.limit, LONGEST_PAGE))
    order = "received_at desc, txn desc, n desc"
    sql = f"select {_COLUMNS} from messages where {where.sql} order by {order} limit {limit + 1}"
    found = await rows(pool, sql, where.values)
    items = [Row(id=row["txn"], **{name: row[name] for name in Row.__slots__ if name != "id"}) for row in found[:limit]]
    last = items[-1] if len(found) > limit else None
    return Page(items, pages.cursor(Place(last.received_at, f"{last.id}.{last.n}")) if last else None)


async def find(pool: Any, viewer: Viewer, txn: str) -> Found | None:
    """One transaction by its id, or by that of one of its recipients; None for a stranger's as for none."""
    txn = txn.partition(".")[0]
    if not is_id(txn):
        return None
    for is_near in (True, False):
        where = Where()
        if is_near:
            where.near(txn)
        where.scope(viewer, None)
        where.add("txn = {}", txn)
        sql = f"select {_ALL} from messages where {where.sql} order by n limit {MOST_RECIPIENTS}"
        if found := await rows(pool, sql, where.values):
            return _found(found)
    return None


def _found(found: list[Any]) -> Found:
    first = found[0]
    same = {name: first[name] for name in ("received_at", "node", "sender", "subject", "client_ip", "helo", "tls")}
    return Found(
        id=first["txn"],
        recipients=tuple(_recipient(row) for row in found),
        message_id=first["message_id"],
        size=first["size_bytes"],
        **same,
    )


def _recipient(row: Any) -> Recipient:
    plain = {name: row[name] for name in Recipient.__slots__ if name != "judgements"}
    return Recipient(judgements=records.judgements(row["judgements"]), **plain)


def _where(viewer: Viewer, query: Query) -> Where:
    where = Where()
    where.scope(viewer, query.domain)
    where.span(query.since, query.until)
    where.address("sender", query.sender)
    where.address("recipient", query.recipient)
    if query.outcome is not None:
        where.add("outcome = {}", words.clean(query.outcome))
    typed = words.clean(query.q or "").split()
    if len(typed) > MOST_TERMS:
        raise ValueError(f"A search takes at most {MOST_TERMS} words; leave some out.")
    if len(typed) == 1 and is_id(typed[0].upper()):
        txn = typed[0].upper().partition(".")[0]
        where.near(txn)
        where.add("txn = {}", txn)
        return where
    for piece in typed:
        where.add(f"strpos({_SEARCHED}, lower({{}})) > 0", piece.strip('<>"') or piece)
    return where
