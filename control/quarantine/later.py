"""Mail that a node accepted for a server that was down: when it is tried, and how it ends.

It ends delivered, or in the quarantine with the reason; never as a bounce. A mail cut in mid-dialogue is tried again,
for it was accepted and must not be lost: here a duplicate is the lesser evil (RFC 1047).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from control.auth import Viewer
from control.quarantine import packs, records, rows
from control.quarantine.frames import Press
from control.quarantine.owners import Owner
from control.quarantine.packs import Place
from control.quarantine.release import CHANNEL
from control.quarantine.words import clean
from syncd.spool.record import Kind, Outcome, RecipientResult, Record

FIRST = timedelta(minutes=15)
OFTEN = 8
"""Tries at the first distance: two hours."""
GROWTH = 1.5
LONGEST = timedelta(hours=12)
GIVEN_UP_AFTER = timedelta(days=5)
"""RFC 5321 section 4.5.4.1: at least 4 to 5 days."""
DOWN_FOR = timedelta(minutes=2)
"""After a try that found no server, the domain's other mail waits this long: each would only wait for it again."""
_COLUMNS = (
    "id, txn, received_at, domain, account_id, sender, recipient, pack, pack_offset, pack_bytes, record, attempts"
)
_MINE = "id = $1 and state = 'running' and attempts = $2"


@dataclass(frozen=True, slots=True)
class Due:
    """A mail that is to be tried now; `attempts` counts this try."""

    id: str
    txn: str
    received_at: datetime
    domain: int
    account_id: str
    sender: str
    recipient: str
    pack: str
    pack_offset: int
    pack_bytes: int
    record: bytes
    attempts: int

    @property
    def n(self) -> int:
        """The recipient's position in its transaction."""
        return int(self.id.partition(".")[2])


def next_try(attempts: int, now: datetime) -> datetime:
    """When to try again after so many tries: every 15 minutes for 2 hours, then each time half as long again. Pure."""
    distance = FIRST * GROWTH ** min(50, max(0, attempts - OFTEN))
    return now + min(distance, LONGEST)


def is_over(received_at: datetime, now: datetime) -> bool:
    """Whether a mail was tried for long enough. Pure."""
    return now - received_at >= GIVEN_UP_AFTER


async def take(pool: Any) -> Due | None:
    """The mail that has waited longest for its try, its start committed; None when none is due."""
    row = await pool.fetchrow(
        "update later set state = 'running', attempts = attempts + 1, next_attempt_at = now() where id = ("
        " select id from later where state = 'waiting' and next_attempt_at <= now()"
        f" order by next_attempt_at for update skip locked limit 1) and state = 'waiting' returning {_COLUMNS}"
    )
    return Due(**dict(row)) if row else None


async def wait(pool: Any, due: Due, said: str, *, is_down: bool) -> None:
    """Have a mail tried again in its time; where no server could be spoken to, the domain's other mail waits too."""
    async with pool.acquire() as connection, connection.transaction():
        now = await connection.fetchval("select now()")
        await connection.execute(
            f"update later set state = 'waiting', next_attempt_at = $3, last_reply = $4 where {_MINE}",
            due.id,
            due.attempts,
            next_try(due.attempts, now),
            rows.text(said, rows.LINE),
        )
        if is_down:
            await connection.execute(
                "update later set next_attempt_at = $2"
                " where domain = $1 and state = 'waiting' and next_attempt_at < $2",
                due.domain,
                now + DOWN_FOR,
            )


async def delivered(pool: Any, due: Due, reply: str, hop: str) -> None:
    """End it as delivered, in the tracking too."""
    async with pool.acquire() as connection, connection.transaction():
        if await _end(connection, due, "done", reply):
            await _settle(connection, due, "delivered", "", "", (reply, hop))


async def to_quarantine(pool: Any, due: Due, reason: str, text: str, reply: str, hop: str) -> None:
    """End it in the quarantine, with the sentence that says why; its body stays where it is."""
    async with pool.acquire() as connection, connection.transaction():
        if await _end(connection, due, "expired", text):
            await _settle(connection, due, "kept", reason, text, (reply, hop))
            await _keep(connection, due, reason, text, reply)


async def push(pool: Any, viewer: Viewer, message_id: str) -> int:
    """Have what waits of a transaction, or of one of its recipients (id.number), tried now.

    Returns how many mails that are; a stranger's are none.
    """
    found = await pool.fetch(
        "with pushed as (update later set next_attempt_at = now() where (id = $1 or txn = $1) and state = 'waiting'"
        " and ($2::text is null or account_id = $2) returning id) select pg_notify($3, id) from pushed",
        clean(message_id),
        viewer.account_id,
        CHANNEL,
    )
    return len(found)


async def recover(pool: Any, ours: list[str], silent: timedelta = timedelta(0)) -> int:
    """Have what a dead janitor left running (all but `ours`, and what began less than `silent` ago) tried again;
    returns how many."""
    found = await pool.fetch(
        "update later set state = 'waiting', next_attempt_at = now()"
        " where state = 'running' and id <> all($1::text[]) and next_attempt_at <= now() - $2::interval returning id",
        ours,
        silent,
    )
    return len(found)


async def waiting(pool: Any) -> int:
    """Mail that is neither delivered nor given up."""
    count: int = await pool.fetchval("select count(*) from later where state in ('waiting', 'running')")
    return count


async def _end(connection: Any, due: Due, state: str, said: str) -> bool:
    sql = f"update later set state = $3, last_reply = $4 where {_MINE} returning true"
    return bool(await connection.fetchval(sql, due.id, due.attempts, state, rows.text(said, rows.LINE)))


async def _settle(connection: Any, due: Due, outcome: str, reason: str, text: str, said: tuple[str, str]) -> None:
    """Write the final outcome into the tracking, and move its count in the roll-ups with it."""
    reply, hop = said
    was = await connection.fetchrow(
        "with was as (select reason, domain, size_bytes from messages where received_at = $1 and txn = $2 and n = $3"
        " and outcome = 'later' for update) update messages m set outcome = $4, reason = $5, text = $6, reply = $7,"
        " next_hop = $8 from was where received_at = $1 and txn = $2 and n = $3"
        " returning was.reason, was.domain, was.size_bytes",
        due.received_at,
        due.txn,
        due.n,
        outcome,
        rows.text(reason, rows.WORD),
        rows.text(text, rows.LINE),
        rows.text(reply, rows.LINE),
        rows.text(hop, rows.ADDRESS),
    )
    if was is None:
        return
    for sign, counted, why in ((-1, "later", was["reason"]), (1, outcome, reason)):
        await connection.execute(
            "insert into rollups as r (day, domain, outcome, reason, mails, bytes)"
            " values (($1::timestamptz at time zone 'utc')::date, $2, $3, $4, $5, $6)"
            " on conflict (day, domain, outcome, reason)"
            " do update set mails = r.mails + excluded.mails, bytes = r.bytes + excluded.bytes",
            due.received_at,
            was["domain"],
            counted,
            why,
            sign,
            sign * was["size_bytes"],
        )


async def _keep(connection: Any, due: Due, reason: str, text: str, reply: str) -> None:
    """The row of the quarantine, and the record beside those of the transaction's other recipients."""
    found = records.read(due.record) or Record(
        id=due.txn, kind=Kind.KEPT, node="", received_at=due.received_at.timestamp(), client_ip="", sender=due.sender
    )
    result = next((each for each in found.recipients if each.n == due.n), None) or RecipientResult(
        due.n, due.recipient, due.recipient.rpartition("@")[2], due.account_id, Outcome.KEPT
    )
    result = msgspec.structs.replace(result, outcome=Outcome.KEPT, reason=reason, text=text, reply=reply)
    record = msgspec.structs.replace(found, recipients=(result,))
    place = Place(due.pack, due.pack_offset, due.pack_bytes)
    owner = Owner(due.domain, due.account_id, packs.CLASSES[0])
    row = rows.kept(record, due.received_at, [(result, owner)], place, _digest(record))[0]
    values = ", ".join(f"${number}" for number in range(1, len(row)))
    await connection.execute(
        f"insert into quarantine ({', '.join(rows.QUARANTINE)}) values ({values}, header_words(${len(row)}))"
        " on conflict do nothing",
        *row,
    )
    await _keep_record(connection, due, record)


def _digest(record: Record) -> bytes:
    try:
        return bytes.fromhex(record.body_sha256)
    except ValueError:
        return b""


async def _keep_record(connection: Any, due: Due, record: Record) -> None:
    at = due.received_at, due.txn
    there = await connection.fetchval(
        "select record from mail_records where received_at = $1 and txn = $2 for update", *at
    )
    before = records.read(there) if there else None
    whole = Press().text(msgspec.json.encode(rows.merged(before, record) if before else record))
    await connection.execute(
        "insert into mail_records (received_at, txn, record) values ($1, $2, $3)"
        " on conflict (received_at, txn) do update set record = excluded.record",
        *at,
        whole,
    )
