"""The janitor's side of acts over many items: each step lists or changes some of them, in one transaction.

Whoever takes the next step, after whatever end of the one before, begins where that was committed.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from ulid import ULID

from control.auth import Viewer
from control.quarantine import bin, rights, search
from control.quarantine.bin import Key
from control.quarantine.search import Query
from control.store import audit

SLICE = 1_000
"""Items of one transaction that deletes or restores."""
RELEASES_WAITING = 500
"""Deliveries of one bulk act that are queued at a time; each holds a lock while it is queued."""
_END = "update bulk_acts set state = $2, error = $3, ended_at = now() where id = $1"


class Stepping:
    """One janitor's bulk acts, in turns, so that a long one does not hold up a short one."""

    def __init__(self, pool: Any) -> None:
        self._pool, self._last = pool, ""

    async def one(self) -> bool:
        """Take one step of the next bulk act; False when there is nothing to do now. Raises what PostgreSQL raises."""
        found = await self._pool.fetch(
            "select id, state from bulk_acts where state = 'listing' or state = 'undoing'"
            " or (state = 'running' and not_before <= now()) order by id <= $1, id",
            self._last,
        )
        for row in found:
            self._last = row["id"]
            step = listing if row["state"] == "listing" else undoing if row["state"] == "undoing" else acting
            if await step(self._pool, row["id"]):
                return True
        return False


async def listing(pool: Any, bulk_id: str) -> bool:
    """Write down the items of the search's next page; False when somebody else is at it."""
    row = await pool.fetchrow("select * from bulk_acts where id = $1 and state = 'listing'", bulk_id)
    if row is None:
        return False
    query = replace(msgspec.json.decode(row["query"], type=Query), cursor=row["cursor"] or None)
    try:
        page = await search.search(pool, _viewer(row), query)
    except ValueError as error:
        await pool.execute(_END, bulk_id, "failed", str(error))
        return True
    async with pool.acquire() as connection, connection.transaction():
        # The cursor is the proof that nobody listed this page, or cancelled it, meanwhile.
        ours = await connection.fetchval(
            "update bulk_acts set cursor = $3, listed = $4, state = case when $4 then 'running' else state end"
            " where id = $1 and cursor = $2 and state = 'listing' returning true",
            bulk_id,
            row["cursor"],
            page.next or "",
            page.next is None,
        )
        if ours:
            await _write_down(connection, bulk_id, [(each.received_at, each.id) for each in page.items])
    return True


async def acting(pool: Any, bulk_id: str) -> bool:
    """Act on the next items; False when it has to wait (for deliveries), or somebody else is at it."""
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            "select * from bulk_acts where id = $1 and state = 'running' for update skip locked", bulk_id
        )
        if row is None:
            return False
        if row["act"] == "release":
            return await _release(connection, row)
        keys = [] if row["act"] == "export" else await _waiting(connection, bulk_id, "waiting", SLICE)
        if not keys:
            await connection.execute(_END, bulk_id, "done", "")
            return True
        await (_delete if row["act"] == "delete" else _restore)(connection, row, keys)
        return True


async def undoing(pool: Any, bulk_id: str) -> bool:
    """Take the next items back; False when somebody else is at it."""
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            "select * from bulk_acts where id = $1 and state = 'undoing' for update skip locked", bulk_id
        )
        if row is None:
            return False
        keys = await _waiting(connection, bulk_id, "done", SLICE)
        if not keys:
            await connection.execute(_END, bulk_id, "undone", "")
            return True
        changed = await (bin.restore if row["act"] == "delete" else bin.delete)(connection, keys)
        await audit.note_many(connection, _viewer(row), f"undo {row['act']}", sorted(changed), bulk=bulk_id)
        await _note(connection, bulk_id, [item for _, item in keys], "undone")
        return True


async def _delete(connection: Any, row: Any, keys: Sequence[Key]) -> None:
    deleted = await bin.delete(connection, keys)
    states = await bin.states(connection, [key for key in keys if key[1] not in deleted])
    held = [item for item, (status, is_held) in states.items() if is_held and status != "deleted"]
    gone = [item for _, item in keys if item not in deleted and item not in states]
    same = [item for item in states if item not in held]
    await audit.note_many(connection, _viewer(row), "delete", sorted(deleted), bulk=row["id"])
    await _note(connection, row["id"], sorted(deleted), "done")
    await _note(connection, row["id"], same, "same")
    await _note(connection, row["id"], held, "failed", "it is on hold")
    await _note(connection, row["id"], gone, "failed", "it is not in the quarantine any more")


async def _restore(connection: Any, row: Any, keys: Sequence[Key]) -> None:
    restored = await bin.restore(connection, keys)
    there = await bin.states(connection, keys)
    await audit.note_many(connection, _viewer(row), "restore", sorted(restored), bulk=row["id"])
    await _note(connection, row["id"], sorted(restored), "done")
    await _note(connection, row["id"], [item for item in there if item not in restored], "same")
    gone = [item for _, item in keys if item not in there]
    await _note(connection, row["id"], gone, "failed", "it is not in the quarantine any more")


async def _release(connection: Any, row: Any) -> bool:
    """Queue the next deliveries, and write down how those queued before have ended."""
    ended = await connection.fetch(
        "update bulk_act_items i set outcome = case j.state when 'done' then 'done' when 'cancelled' then 'cancelled'"
        " else 'failed' end, reason = case j.state when 'done' then '' else j.outcome end"
        " from jobs j where j.bulk = i.bulk and j.item = i.item and i.bulk = $1 and i.outcome = 'queued'"
        " and j.state not in ('queued', 'running') returning i.n",
        row["id"],
    )
    queued = await connection.fetchval(
        "select count(*) from bulk_act_items where bulk = $1 and outcome = 'queued'", row["id"]
    )
    keys = await _waiting(connection, row["id"], "waiting", RELEASES_WAITING - queued)
    if keys:
        await _queue(connection, row, keys)
    elif not queued:
        await connection.execute(_END, row["id"], "done", "")
    return bool(ended or keys or not queued)


async def _queue(connection: Any, row: Any, keys: Sequence[Key]) -> None:
    # The lock of a single release: what somebody else asks for meanwhile is seen by one of us.
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended('release ' || item, 0)) from (select unnest($1::text[]) as item"
        " order by 1) as items",
        [item for _, item in keys],
    )
    found = await connection.fetch(
        "select q.id, q.reason, q.status, q.account_id, (select j.state from jobs j where j.item = q.id"
        " and j.act = 'release' and j.recipient = '' order by j.id desc limit 1) as job"
        " from quarantine q, unnest($1::timestamptz[], $2::text[]) as k (at, id)"
        " where q.received_at = k.at and q.id = k.id and q.status <> 'deleted'",
        [at for at, _ in keys],
        [item for _, item in keys],
    )
    viewer, there = _viewer(row), {each["id"] for each in found}
    barred = [each for each in found if not rights.may_release(viewer.role, each["reason"])]
    same = [each for each in found if each not in barred and each["job"] not in (None, "failed", "cancelled")]
    wanted = [each for each in found if each not in barred and each not in same]
    await _insert_jobs(connection, row, wanted)
    await audit.note_many(connection, viewer, "release", [each["id"] for each in wanted], bulk=row["id"])
    await _note(connection, row["id"], [each["id"] for each in wanted], "queued")
    await _note(connection, row["id"], [each["id"] for each in same], "same", "it was released already")
    for each in barred:
        words = f"mail kept for “{each['reason']}” is released by the {rights.who_may(each['reason'])} alone"
        await _note(connection, row["id"], [each["id"]], "failed", words)
    gone = [item for _, item in keys if item not in there]
    await _note(connection, row["id"], gone, "failed", "it is not in the quarantine any more")


async def _insert_jobs(connection: Any, row: Any, wanted: Sequence[Any]) -> None:
    # One that was cancelled and resumed has a job of this act already, which has ended.
    await connection.execute(
        "update jobs set bulk = null where bulk = $1 and item = any($2::text[])",
        row["id"],
        [each["id"] for each in wanted],
    )
    await connection.executemany(
        "insert into jobs (id, account_id, act, item, options, created_by, bulk)"
        " values ($1, $2, 'release', $3, $4::text::jsonb, $5, $6)",
        [(str(ULID()), each["account_id"], each["id"], row["options"], row["author"], row["id"]) for each in wanted],
    )


async def _write_down(connection: Any, bulk_id: str, keys: Sequence[Key]) -> None:
    await connection.execute(
        "insert into bulk_act_items (bulk, n, item, received_at) select $1, number"
        " + (select coalesce(max(n), 0) from bulk_act_items where bulk = $1), item, at"
        " from unnest($2::timestamptz[], $3::text[]) with ordinality as k (at, item, number)"
        " on conflict (bulk, item) do nothing",
        bulk_id,
        [at for at, _ in keys],
        [item for _, item in keys],
    )


async def _waiting(connection: Any, bulk_id: str, outcome: str, most: int) -> list[Key]:
    rows = await connection.fetch(
        "select received_at, item from bulk_act_items where bulk = $1 and outcome = $2 order by n limit $3",
        bulk_id,
        outcome,
        max(0, most),
    )
    return [(row["received_at"], row["item"]) for row in rows]


async def _note(connection: Any, bulk_id: str, items: Sequence[str], outcome: str, reason: str = "") -> None:
    if items:
        await connection.execute(
            "update bulk_act_items set outcome = $3, reason = $4 where bulk = $1 and item = any($2::text[])",
            bulk_id,
            list(items),
            outcome,
            reason,
        )


def _viewer(row: Any) -> Viewer:
    return Viewer(row["author"], row["account_id"], row["role"], row["door"])
