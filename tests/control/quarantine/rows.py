"""Rows of the quarantine as ingest writes them, for tests of what reads them."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import zstandard
from ulid import ULID

from control.quarantine.pack_writer import PackWriter
from control.quarantine.packs import Packs, Place, today
from control.quarantine.words import of_header
from syncd.spool.record import Judgement, Kind, Outcome, RecipientResult, Record


def at(days_back: float = 0.0) -> datetime:
    """A moment so many days ago."""
    return datetime.now(UTC) - timedelta(days=days_back)


def day(year: int, month: int, number: int) -> datetime:
    """The beginning of a day."""
    return datetime(year, month, number, tzinfo=UTC)


def record_of(recipients: Iterable[tuple[str, str]], **fields: Any) -> Record:
    """The record of a mail that was refused by the content filter for each (address, account)."""
    when: datetime = fields.pop("when", at())
    results = tuple(
        RecipientResult(
            n=n,
            address=address,
            domain=address.rpartition("@")[2],
            account=account,
            outcome=Outcome.KEPT,
            reason="content",
            text="The subject holds a listed word.",
            judgements=n,
            revision=7,
        )
        for n, (address, account) in enumerate(recipients)
    )
    judged = tuple(
        (Judgement("content", "message", "on", "refuse", reason=f"a word of {each.account}", acted=True),)
        for each in results
    )
    values = {
        "id": str(ULID.from_datetime(when)),
        "kind": Kind.KEPT,
        "node": "mx1",
        "received_at": when.timestamp(),
        "client_ip": "192.0.2.7",
        "helo": "client.sender.test",
        "sender": "ann@sender.test",
        "subject": "Cheap zebras",
        "header_from": "Ann <ann@sender.test>",
        "message_id": "<1@sender.test>",
        "reply": "550 5.7.1 refused",
        "trace": "Received: from client.sender.test\r\n\tby mx1.test; now\r\n",
        **fields,
    }
    return Record(recipients=results, judgements=judged, **values)


async def keep(pool: Any, record: Record, *, pack: str = "", offset: int = 0, size: int = 0) -> list[str]:
    """The rows of a kept mail in a pack; returns the ids of its items."""
    when = datetime.fromtimestamp(record.received_at, UTC)
    await pool.execute(
        "insert into mail_records (received_at, txn, record) values ($1, $2, $3)",
        when,
        record.id,
        zstandard.compress(msgspec.json.encode(record)),
    )
    for each in record.recipients:
        await _keep_one(pool, record, each, when, (pack, offset, size))
        await track_one(pool, record, each, when)
    return [f"{record.id}.{each.n}" for each in record.recipients]


async def _keep_one(pool: Any, record: Record, each: RecipientResult, when: datetime, body: tuple[Any, ...]) -> None:
    await pool.execute(
        "insert into quarantine (received_at, id, txn, domain, account_id, sender, recipient, subject, header_from,"
        " reason, filter, reason_text, score, node, client_ip, size_bytes, generation, revision, pack, pack_offset,"
        " pack_bytes, body_sha256, words)"
        " values ($1, $2, $3, coalesce((select number from domains where name = $4), 0), $5, $6, $7, $8, $9,"
        " $10, $10, $11, $12, $13, $14::text::inet, $15, 1, $16, $17, $18, $19, '', header_words($20))",
        when,
        f"{record.id}.{each.n}",
        record.id,
        each.domain,
        each.account,
        record.sender,
        each.address,
        record.subject,
        record.header_from,
        each.reason,
        each.text,
        each.score,
        record.node,
        record.client_ip,
        record.body_bytes,
        each.revision,
        *body,
        of_header(record.subject, (record.sender, record.header_from), each.address, record.attachments, 16_000),
    )


async def track_one(pool: Any, record: Record, each: RecipientResult, when: datetime) -> None:
    """The row of one recipient in the tracking."""
    await pool.execute(
        "insert into messages (received_at, txn, n, domain, account_id, sender, recipient, subject, message_id,"
        " outcome, reason, text, reply, score, node, client_ip, helo, tls, size_bytes, generation, revision,"
        " next_hop, judgements)"
        " values ($1, $2, $3, coalesce((select number from domains where name = $4), 0), $5, $6, $7, $8, $9, $10, $11,"
        " $12, $13, $14, $15, $16::text::inet, $17, '', $18, 1, $19, '', $20)",
        when,
        record.id,
        each.n,
        each.domain,
        each.account,
        record.sender,
        each.address,
        record.subject,
        record.message_id,
        each.outcome.value,
        each.reason,
        each.text,
        each.reply,
        each.score,
        record.node,
        record.client_ip,
        record.helo,
        record.body_bytes,
        each.revision,
        zstandard.compress(msgspec.json.encode(record.judgements[each.judgements] if each.judgements >= 0 else ())),
    )


async def add_account(pool: Any, account: str, *domains: str, port: int = 25) -> None:
    """An account with these domains, whose next hop listens on a port of this machine."""
    await pool.execute("insert into accounts (id, name) values ($1, $1) on conflict do nothing", account)
    for name in domains:
        await pool.execute(
            "insert into domains (name, account_id, next_hops) values ($1, $2, $3::text::jsonb)",
            name,
            account,
            json.dumps([{"host": "127.0.0.1", "port": port, "tls": "opportunistic", "preference": 10}]),
        )


def pack(packs: Packs, *mails: bytes) -> list[Place]:
    """The mails in a pack, as the receiver writes it."""
    writer = PackWriter(packs)
    try:
        with writer.batch() as batch:
            return [batch.add(today(), 31, str(ULID()), mail) for mail in mails]
    finally:
        writer.close()
