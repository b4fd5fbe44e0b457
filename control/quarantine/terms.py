"""Terms of a search as conditions on rows of the quarantine and on the index of bodies. Pure.

A mail whose body was read has all its words, header and body, in `body_words`; another only those of its header, in
`quarantine.words`. Free words are looked for in both: a *way* is one index to begin with.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from control.quarantine import words
from control.quarantine.conditions import Where, address, is_id, is_piece
from control.quarantine.grammar import FREE, Term
from control.quarantine.words import Part

_BODY = (
    "select b.words from body_words b where b.received_at = q.received_at and b.txn = q.txn"
    " and b.received_at >= {} and b.received_at < {}"
)
"""The times are said once more, because it is this form that leaves the other days' indexes untouched."""
_IN_BODY = f"exists ({_BODY} and b.words @@ to_tsquery('simple', {{}}))"
_LACKED = f"not coalesce(({_BODY}), q.words) @@ to_tsquery('simple', {{}})"
_WORDS = "q.words @@ to_tsquery('simple', {})"
_PIECES = "lower(q.sender || E'\\n' || q.recipient) like lower({})"
"""What the index of a day that is over answers (`control.quarantine.closing`)."""
_NAMED = {
    "reason": "{} in (q.reason, q.filter)",
    "filter": "q.filter = {}",
    "node": "lower(q.node) = lower({})",
    "ip": "q.client_ip <<= {}",
    "after": "q.received_at >= {}",
    "before": "q.received_at < {}",
    "is": "q.status = {}",
}
_COMPARED = {"score": "q.score %s {}::real", "size": "q.size_bytes %s {}::bigint"}


@dataclass(frozen=True, slots=True)
class Span:
    """Times from `since` to before `until`: a day of the store, or less."""

    since: datetime
    until: datetime


Way = Callable[[Where, Span], None]
"""Adds the conditions of one way to find what fits."""


def ways(terms: Sequence[Term]) -> list[Way]:
    """The ways by which everything that fits is found, by one or by several of them."""
    found = [term for term in terms if term.name in (FREE, "body") and not term.is_negated]
    if len(found) == 1 and found[0].name == FREE and is_id(str(found[0].value).strip().upper()):
        return [_by_id(str(found[0].value).strip().upper())]
    if not found:
        return [_nothing_more]
    by_body = _by_body([_query(term, Part.BODY if term.name == "body" else Part.ANY) for term in found])
    if any(term.name == "body" for term in found):
        return [by_body]
    return [_by_header([_query(term, Part.ANY) for term in found]), by_body]


def narrow(where: Where, span: Span, terms: Iterable[Term]) -> None:
    """Add every condition that no way begins with."""
    for term in terms:
        if term.name in (FREE, "body"):
            if term.is_negated:
                _lack(where, span, term)
        elif term.name in ("from", "to"):
            _address(where, term)
        else:
            condition, values = _plain(term)
            where.add(f"not ({condition})" if term.is_negated else condition, *values)


def near_address(where: Where, column: str, typed: str) -> None:
    """Add what an index can say of an address besides `Where.address`, which says what is meant exactly."""
    wanted = words.clean(typed).strip()
    if is_piece(wanted):
        where.add(_PIECES, _like(wanted))
    elif query := words.all_of(wanted):
        where.add(_WORDS, query)


def needs_bodies(terms: Iterable[Term]) -> bool:
    """Whether the answer depends on bodies having been read."""
    return any(term.name in (FREE, "body") for term in terms)


def _nothing_more(where: Where, span: Span) -> None:
    """Every row that all else leaves."""


def _by_id(wanted: str) -> Way:
    def add(where: Where, span: Span) -> None:
        txn, _, number = wanted.partition(".")
        where.near(txn)
        where.add("q.id = {}" if number else "q.txn = {}", wanted)

    return add


def _by_header(queries: Sequence[str]) -> Way:
    return lambda where, span: where.add(_WORDS, " & ".join(queries))


def _by_body(queries: Sequence[str]) -> Way:
    return lambda where, span: where.add(_IN_BODY, span.since, span.until, " & ".join(queries))


def _lack(where: Where, span: Span, term: Term) -> None:
    if term.name == "body":
        where.add(f"not {_IN_BODY}", span.since, span.until, _query(term, Part.BODY))
    else:
        where.add(_LACKED, span.since, span.until, _query(term, Part.ANY))


def _query(term: Term, part: Part) -> str:
    return words.in_a_row(term.value, part, is_beginning=term.is_beginning)


def _address(where: Where, term: Term) -> None:
    """`from:` is the envelope sender or, by its words, the From field; `to:` the recipient."""
    column = "q.sender" if term.name == "from" else "q.recipient"
    near, meant = Where(where.values), Where(where.values)
    if not term.is_negated:
        near_address(near, column, term.value)
    near.add(*address(column, term.value))
    shown = _query(term, Part.SENDER) if term.name == "from" else ""
    if shown:
        meant.add(_WORDS, shown)
    condition = f"(({near.sql}) or {meant.sql})" if shown else f"({near.sql})"
    where.add_sql(f"not {condition}" if term.is_negated else condition)


def _plain(term: Term) -> tuple[str, tuple[Any, ...]]:
    if term.name == "has":
        return "q.attachments <> '{{}}'", ()
    if term.name == "subject":
        return _WORDS, (_query(term, Part.SUBJECT),)
    if term.name in _COMPARED:
        return _COMPARED[term.name] % term.by, (term.value,)
    value = term.value.lower() if term.name in ("reason", "filter") else term.value
    return _NAMED[term.name], (value,)


def _like(piece: str) -> str:
    escaped = piece.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
