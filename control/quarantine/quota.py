"""How many bytes of mail an account may keep: what is above goes, oldest first, whatever its retention says."""

from dataclasses import dataclass
from typing import Any

from control.auth import Viewer
from control.quarantine import bin, holds
from control.store import audit
from control.store.accounts import require_operator
from control.store.errors import Missing

SLICE = 5_000
WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class Quota:
    """Bytes that an account may keep (None: as much as its retention), and how many it keeps, the bin included."""

    quota_bytes: int | None
    used_bytes: int
    mails: int


async def get(pool: Any, viewer: Viewer, account_id: str) -> Quota:
    """An account's quota and use. Raises Missing."""
    row = await pool.fetchrow(
        "select a.quota_bytes, coalesce(sum(q.size_bytes), 0)::bigint as used_bytes, count(q.id) as mails"
        " from accounts a left join quarantine q on q.account_id = a.id where a.id = $1 group by a.id",
        account_id,
    )
    if row is None or not viewer.sees(account_id):
        raise Missing(f"there is no account “{account_id[:40]}”")
    return Quota(**dict(row))


async def put(pool: Any, viewer: Viewer, account_id: str, quota_bytes: int | None) -> None:
    """Set an account's quota; it is enforced within the hour. Raises Missing, Forbidden."""
    require_operator(viewer)
    async with pool.acquire() as connection, connection.transaction():
        done = await connection.fetchval(
            "update accounts set quota_bytes = $2 where id = $1 returning true", account_id, quota_bytes
        )
        if not done:
            raise Missing(f"there is no account “{account_id[:40]}”")
        await audit.note(connection, viewer, "quota", account_id, quota_bytes=quota_bytes)


async def enforce(connection: Any) -> int:
    """Remove what is above the quotas; returns the number of rows. Mail on hold stays and counts."""
    removed = 0
    for row in await connection.fetch("select id, quota_bytes from accounts where quota_bytes is not null"):
        while gone := await _remove(connection, row["id"], row["quota_bytes"]):
            removed += gone
    return removed


async def _remove(connection: Any, account_id: str, quota_bytes: int) -> int:
    found = await connection.fetch(
        "delete from quarantine q using (select received_at, id from (select received_at, id, hold, domain,"
        " sum(size_bytes) over (order by received_at desc, id desc) as kept from quarantine where account_id = $1) q"
        f" where kept > $2 and {holds.FREE} order by received_at, id limit {SLICE}) k"
        " where q.received_at = k.received_at and q.id = k.id returning q.received_at, q.txn",
        account_id,
        quota_bytes,
        timeout=WITHIN_S,
    )
    await bin.drop_records(connection, [(row["received_at"], row["txn"]) for row in found])
    return len(found)
