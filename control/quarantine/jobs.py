"""The janitor's side of the jobs: taken once, written down before each step that cannot be taken back, ended.

A job is held by its start time: whoever was declared dead meanwhile finds another one there, and lets go before the
mail leaves.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from control.auth import Viewer
from control.quarantine.conditions import Where

MOST_OF_ONE_ACCOUNT = 4
"""Deliveries of one account at a time: a customer's slow server must not hold up the others."""
AGAIN = "The janitor was stopped before the mail was sent; it is tried again."
CUT = (
    "The janitor was stopped after the mail was sent and before the answer came: it may have been delivered."
    " Look in the mailbox before you deliver it again."
)
JANITOR = Viewer("janitor", None, "operator", "api")
_MINE = "id = $1 and state = 'running' and started_at = $2"


class Lost(Exception):
    """The job is no longer ours: another janitor took over. Nothing was sent, and nothing may be."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A job that this janitor delivers."""

    id: str
    item: str
    started_at: datetime
    recipient: str = ""
    """Another address than the item's own; "" for that."""


async def take(pool: Any) -> Taken | None:
    """The oldest job that may run now, its start committed; None when there is none."""
    row = await pool.fetchrow(
        "update jobs set state = 'running', started_at = clock_timestamp(), dot_sent = false where id = ("
        " select id from jobs j where state = 'queued' and not_before <= now() and (select count(*) from jobs r"
        " where r.state = 'running' and r.account_id = j.account_id) < $1"
        " order by bulk is not null, created_at for update skip locked limit 1) and state = 'queued'"
        " returning id, item, started_at, recipient",
        MOST_OF_ONE_ACCOUNT,
    )
    return Taken(**dict(row)) if row else None


async def sending(pool: Any, taken: Taken) -> None:
    """Commit that the mail is about to leave: from here on the job never runs again by itself. Raises Lost."""
    await _change(pool, taken, "dot_sent = true")


async def not_sent(pool: Any, taken: Taken, outcome: str) -> None:
    """Write down that this try delivered nothing, and why. Raises Lost."""
    await _change(pool, taken, "dot_sent = false, outcome = $3", outcome)


async def end(pool: Any, taken: Taken, state: str, outcome: str) -> None:
    """End a job; with "done" its item is released. A job that is no longer ours is left as it is."""
    async with pool.acquire() as connection, connection.transaction():
        ended = await connection.fetchval(
            f"update jobs set state = $3, outcome = $4, ended_at = now() where {_MINE} returning true",
            taken.id,
            taken.started_at,
            state,
            outcome,
        )
        if ended and state == "done":
            await _mark_released(connection, taken.item)


async def abandon(pool: Any, taken: Taken, outcome: str) -> None:
    """End a job after an error of ours: failed where nothing was sent, else unknown."""
    await pool.execute(
        "update jobs set state = case when dot_sent then 'unknown' else 'failed' end, outcome = $3, ended_at = now()"
        f" where {_MINE}",
        taken.id,
        taken.started_at,
        outcome,
    )


async def recover(pool: Any, ours: list[str], silent: timedelta = timedelta(0)) -> tuple[int, int]:
    """What a dead janitor left running (all but `ours`, and what began less than `silent` ago): tried again where
    nothing was sent, else ended as unknown. Returns the numbers of both.
    """
    again = await pool.fetch(
        "update jobs set state = 'queued', outcome = $2 where state = 'running' and not dot_sent"
        " and id <> all($1::text[]) and started_at <= now() - $3::interval returning id",
        ours,
        AGAIN,
        silent,
    )
    unknown = await pool.fetch(
        "update jobs set state = 'unknown', outcome = $2, ended_at = now() where state = 'running' and dot_sent"
        " and id <> all($1::text[]) and started_at <= now() - $3::interval returning id",
        ours,
        CUT,
        silent,
    )
    return len(again), len(unknown)


async def cancel(connection: Any, job_id: str) -> bool:
    """Take a job back that has not begun; False when it is too late."""
    return bool(
        await connection.fetchval(
            "update jobs set state = 'cancelled', outcome = 'taken back before it began', ended_at = now()"
            " where id = $1 and state = 'queued' returning true",
            job_id,
        )
    )


async def next_in_s(pool: Any) -> float | None:
    """Seconds until the next job that is held may start; None when none is held."""
    found: float | None = await pool.fetchval(
        "select extract(epoch from min(not_before) - now())::float8 from jobs"
        " where state = 'queued' and not_before > now()"
    )
    return found


async def waiting(pool: Any) -> int:
    """Jobs queued or running."""
    count: int = await pool.fetchval("select count(*) from jobs where state in ('queued', 'running')")
    return count


async def _change(pool: Any, taken: Taken, change: str, *values: Any) -> None:
    sql = f"update jobs set {change} where {_MINE} returning true"
    if not await pool.fetchval(sql, taken.id, taken.started_at, *values):
        raise Lost(taken.id)


async def _mark_released(connection: Any, item: str) -> None:
    for is_near in (True, False):
        where = Where()
        if is_near:
            where.near(item)
        where.add("id = {}", item)
        sql = f"update quarantine set status = 'released' where {where.sql} and status = 'kept' returning true"
        if await connection.fetchval(sql, *where.values):
            return
