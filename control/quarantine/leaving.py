"""Mail that has to go at once: of a domain that was deleted, or of one mailbox.

The wish is committed with the deletion; the janitor carries it out from then on, in slices, whatever ends it in
between. Rows, verdicts, tracking and the index go; bodies go with the pack of their day. Mail on hold stays, and goes
when the hold is taken off.
"""

from datetime import datetime
from typing import Any

from control.auth import Viewer
from control.quarantine import bin, holds
from control.quarantine.words import clean
from control.store import domains, leaving
from control.store.errors import Invalid

SLICE = 5_000
WITHIN_S = 60.0
HELD_AGAIN = "1 hour"
"""How often it is looked whether a hold was taken off."""


async def mailbox(pool: Any, viewer: Viewer, address: str) -> str:
    """Have all kept mail of one address go; returns the id of the wish. Raises Missing, Invalid."""
    local, at, name = clean(address).strip().lower().rpartition("@")
    if not at or not local:
        raise Invalid("recipient", "must be an address like name@your-domain.test")
    found = await domains.get(pool, viewer, name)
    async with pool.acquire() as connection, connection.transaction():
        return await leaving.begin(connection, viewer, found.account_id, found.number, f"{local}@{name}")


async def step(pool: Any) -> bool:
    """Remove some of what has to go; False when nothing is left to do now. Raises what PostgreSQL raises."""
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            "select id, account_id, domain, recipient, created_at from leaving where done_at is null"
            f" and (looked_at is null or looked_at < now() - interval '{HELD_AGAIN}')"
            " order by id for update skip locked limit 1"
        )
        if row is None:
            return False
        removed = await _quarantine(connection, row) or await _messages(connection, row)
        await connection.execute("update leaving set removed = removed + $2 where id = $1", row["id"], removed)
        if not removed:
            await _rest(connection, row)
        return True


async def _rest(connection: Any, row: Any) -> None:
    """Nothing that may go is left: done, unless something is on hold."""
    held = await connection.fetchval(
        "select exists (select from quarantine q where q.domain = $1 and q.account_id = $2 and q.received_at <= $4"
        " and ($3 = '' or lower(q.recipient) = $3))",
        *_whose(row),
    )
    await connection.execute(
        "update leaving set looked_at = now(), done_at = case when $2 then null else now() end where id = $1",
        row["id"],
        held,
    )


async def _quarantine(connection: Any, row: Any) -> int:
    found = await connection.fetch(
        "delete from quarantine q using (select received_at, id from quarantine q where q.domain = $1"
        " and q.account_id = $2 and ($3 = '' or lower(q.recipient) = $3) and q.received_at <= $4"
        f" and {holds.FREE} limit {SLICE}) k"
        " where q.received_at = k.received_at and q.id = k.id returning q.received_at, q.txn",
        *_whose(row),
        timeout=WITHIN_S,
    )
    await bin.drop_records(connection, [(each["received_at"], each["txn"]) for each in found])
    return len(found)


async def _messages(connection: Any, row: Any) -> int:
    done = await connection.execute(
        "delete from messages m using (select received_at, txn, n from messages q where q.domain = $1"
        " and q.account_id = $2 and ($3 = '' or lower(q.recipient) = $3) and q.received_at <= $4"
        f" and {holds.DOMAIN_FREE} limit {SLICE}) k"
        " where m.received_at = k.received_at and m.txn = k.txn and m.n = k.n",
        *_whose(row),
        timeout=WITHIN_S,
    )
    return int(done.split()[-1])


def _whose(row: Any) -> tuple[int, str, str, datetime]:
    """A mailbox may get new mail after the wish: that one stays."""
    return row["domain"], row["account_id"], row["recipient"], row["created_at"]
