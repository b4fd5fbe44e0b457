"""A record as rows of the quarantine and of tracking: every value as the columns and indexes bear it. Pure.

A record comes from a node and speaks of what a stranger sent: no text in it is trusted to fit, to be short, or to be
storable. What does not fit is cut or replaced; only a record without a usable id, kind or numbering is refused.
"""

import ipaddress
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from control.quarantine.frames import Press
from control.quarantine.owners import Owner
from control.quarantine.packs import Place
from control.quarantine.words import of_header
from syncd.spool.record import Judgement, Kind, Outcome, RecipientResult, Record

LINE = 998
"""Longest line of a mail (RFC 5322 section 2.1.1)."""
ADDRESS = 512
"""More than RFC 5321 section 4.5.3.1 allows (64 + 1 + 255)."""
WORD = 64
"""For what stands in index keys: names of filters, reasons, nodes, accounts."""
WORDS = 16_000
"""Characters of a mail that are indexed."""
RECIPIENTS = 32_767
ATTACHMENTS = 50
_BIGGEST_INT, _BIGGEST_BIGINT = 2**31 - 1, 2**63 - 1
_BIGGEST_SCORE = 1e9
_NO_ADDRESS = ipaddress.IPv4Address(0)

QUARANTINE = (
    "received_at", "id", "txn", "domain", "account_id", "sender", "recipient", "subject", "header_from", "reason",
    "filter", "reason_text", "score", "node", "client_ip", "size_bytes", "attachments", "generation", "revision",
    "pack", "pack_offset", "pack_bytes", "body_sha256", "words",
)  # fmt: skip
MESSAGES = (
    "received_at", "txn", "n", "domain", "account_id", "sender", "recipient", "subject", "message_id", "outcome",
    "reason", "text", "reply", "score", "node", "client_ip", "helo", "tls", "size_bytes", "generation", "revision",
    "next_hop", "judgements",
)  # fmt: skip
LATER = (
    "id", "txn", "received_at", "domain", "account_id", "sender", "recipient", "pack", "pack_offset", "pack_bytes",
    "record",
)  # fmt: skip

Row = tuple[Any, ...]
Addressed = Sequence[tuple[RecipientResult, Owner]]
"""Recipients of a record with their owners."""


class Unreadable(ValueError):
    """Bytes that are no record, or one that cannot be stored whatever is cut off it."""


def decode(header: bytes) -> Record:
    """A record from its JSON. Raises Unreadable."""
    try:
        record = msgspec.json.decode(header, type=Record)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no record: {error}") from error
    if not all(0 <= each.n <= RECIPIENTS for each in record.recipients):
        raise Unreadable(f"a recipient's number is not between 0 and {RECIPIENTS}")
    return record


def bodied(record: Record) -> list[RecipientResult]:
    """The recipients for whose sake the body is kept."""
    wanted = {Kind.KEPT: Outcome.KEPT, Kind.LATER: Outcome.LATER}.get(record.kind)
    return [each for each in record.recipients if each.outcome is wanted]


def tracking(record: Record, at: datetime, addressed: Addressed, press: Press) -> list[Row]:
    """Rows of `messages`, one a recipient."""
    of_all = _of_all(record)
    judged: dict[int, bytes] = {}
    rows = []
    for each, owner in addressed:
        if each.judgements not in judged:
            judged[each.judgements] = press.text(msgspec.json.encode(_judgements(record, each)))
        rows.append(
            (
                at, record.id, each.n, owner.number, text(owner.account_id, WORD), of_all["sender"],
                text(each.address, ADDRESS), of_all["subject"], text(record.message_id, LINE), each.outcome.value,
                text(each.reason, WORD), text(each.text, LINE), text(each.reply or record.reply, LINE),
                _score(each.score), of_all["node"], of_all["client_ip"], text(record.helo, ADDRESS),
                text(record.tls, WORD), of_all["size"], _bigint(each.generation), _bigint(each.revision),
                text(each.next_hop, ADDRESS), judged[each.judgements],
            )
        )  # fmt: skip
    return rows


def kept(record: Record, at: datetime, addressed: Addressed, place: Place, digest: bytes) -> list[Row]:
    """Rows of `quarantine`, one a recipient; their last column is the words of `header_words`."""
    of_all = _of_all(record)
    names = [text(name, ADDRESS) for name in record.attachments[:ATTACHMENTS]]
    header_from = text(record.header_from, LINE)
    return [
        (
            at, f"{record.id}.{each.n}", record.id, owner.number, text(owner.account_id, WORD), of_all["sender"],
            text(each.address, ADDRESS), of_all["subject"], header_from, text(each.reason, WORD),
            _filter(record, each), text(each.text, LINE), _score(each.score), of_all["node"], of_all["client_ip"],
            of_all["size"], names, _bigint(each.generation), _bigint(each.revision),
            place.pack, place.offset, place.size, digest,
            of_header(of_all["subject"], (of_all["sender"], header_from), text(each.address, ADDRESS), names, WORDS),
        )
        for each, owner in addressed
    ]  # fmt: skip


def later(record: Record, at: datetime, addressed: Addressed, place: Place, packed: bytes) -> list[Row]:
    """Rows of `later`, one a recipient, each with the whole record as it was packed."""
    sender = text(record.sender, ADDRESS)
    return [
        (
            f"{record.id}.{each.n}", record.id, at, owner.number, text(owner.account_id, WORD), sender,
            text(each.address, ADDRESS), place.pack, place.offset, place.size, packed,
        )
        for each, owner in addressed
    ]  # fmt: skip


def merged(first: Record, second: Record) -> Record:
    """One record of two that tell of different recipients of one transaction (the copy that only the relay's answers
    made necessary comes second)."""
    known = {each.n for each in first.recipients}
    shift = len(first.judgements)
    more = tuple(
        msgspec.structs.replace(each, judgements=each.judgements + shift if each.judgements >= 0 else -1)
        for each in second.recipients
        if each.n not in known
    )
    return msgspec.structs.replace(
        first,
        recipients=first.recipients + more,
        judgements=first.judgements + second.judgements,
        reply=second.reply or first.reply,
        dialogue=max(first.dialogue, second.dialogue, key=len),
    )


def text(value: str, most: int) -> str:
    """Text that PostgreSQL can store: without U+0000 and lone surrogates, of at most so many characters."""
    value = value[:most]
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _of_all(record: Record) -> dict[str, Any]:
    """What all recipients share."""
    return {
        "sender": text(record.sender, ADDRESS),
        "subject": text(record.subject, LINE),
        "node": text(record.node, WORD),
        "client_ip": _address(record.client_ip),
        "size": max(0, min(record.body_bytes, _BIGGEST_INT)),
    }


def _judgements(record: Record, result: RecipientResult) -> tuple[Judgement, ...]:
    return record.judgements[result.judgements] if 0 <= result.judgements < len(record.judgements) else ()


def _filter(record: Record, result: RecipientResult) -> str:
    """The filter whose verdict decided; "" when it was none alone (the score, the next hop)."""
    return text(next((each.filter for each in _judgements(record, result) if each.acted), ""), WORD)


def _score(score: float) -> float:
    return max(-_BIGGEST_SCORE, min(score, _BIGGEST_SCORE))


def _bigint(number: int) -> int:
    return max(0, min(number, _BIGGEST_BIGINT))


def _address(spelled: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The client's address; the unspecified one for what is none. A zone is this host's affair and is left out."""
    try:
        return ipaddress.ip_address(spelled.partition("%")[0])
    except ValueError:
        return _NO_ADDRESS
