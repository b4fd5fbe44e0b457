"""One transaction of a bulk change: the next domains, whoever begins it, after whatever crash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from control.auth import Viewer
from control.store import batch, bulk
from control.store.errors import StoreError
from control.store.layers import Change
from monitoring.metrics import control as metrics


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction of a bulk change: what it wrote last, None when nothing was different."""

    point: tuple[int, int] | None


async def oldest_running(pool: Any) -> str | None:
    """The bulk change to go on with."""
    found: str | None = await pool.fetchval(
        "select id from bulk_changes where state = 'running' order by created_at, id limit 1"
    )
    return found


async def step(pool: Any, bulk_id: str, most: int) -> Step | None:
    """Write the next domains of a bulk change; None when nothing is left, or another process is at it."""
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            "select account_id, author, role, door, patch::text from bulk_changes"
            " where id = $1 and state = 'running' for update skip locked",
            bulk_id,
        )
        if row is None:
            return None
        names = await _waiting(connection, bulk_id, most)
        if not names:
            await connection.execute("update bulk_changes set state = 'done', ended_at = now() where id = $1", bulk_id)
            return None
        viewer = Viewer(row["author"], row["account_id"], row["role"], row["door"])
        made, outcomes = await _made(connection, viewer, names, msgspec.json.decode(row["patch"]))
        point = await batch.save(connection, viewer, made) if made else None
        await _note(connection, bulk_id, outcomes, point)
    metrics.settings_changes.labels(viewer.door).inc(len(made))
    return Step(point)


Outcomes = dict[str, tuple[str, str]]
"""(outcome, reason) by domain."""


async def _made(
    connection: Any, viewer: Viewer, names: Sequence[str], patch: Mapping[str, Any]
) -> tuple[list[Change], Outcomes]:
    """The changes of these domains, and what becomes of each; one that no longer fits fails alone."""
    await batch.lock(connection, names)
    found = await batch.load(connection, viewer, names)
    above = await batch.above(connection, found)
    changes, outcomes = list[Change](), Outcomes()
    for name in names:
        try:
            made = bulk.change(found.get(name), above, name, patch)
        except StoreError as error:
            outcomes[name] = ("failed", str(error))
        else:
            outcomes[name] = ("changed" if made else "same", "")
            changes += [made] if made else []
    return changes, outcomes


async def _waiting(connection: Any, bulk_id: str, most: int) -> list[str]:
    rows = await connection.fetch(
        "select domain from bulk_items where bulk = $1 and outcome = 'waiting' order by domain limit $2", bulk_id, most
    )
    return [row["domain"] for row in rows]


async def _note(connection: Any, bulk_id: str, outcomes: Outcomes, point: tuple[int, int] | None) -> None:
    await connection.execute(
        "update bulk_items set outcome = new.outcome, reason = new.reason"
        " from unnest($2::text[], $3::text[], $4::text[]) as new (domain, outcome, reason)"
        " where bulk_items.bulk = $1 and bulk_items.domain = new.domain",
        bulk_id,
        list(outcomes),
        [outcome for outcome, _ in outcomes.values()],
        [reason for _, reason in outcomes.values()],
    )
    if point:
        await connection.execute(
            "update bulk_changes set generation = $2, revision = $3 where id = $1", bulk_id, point[0], point[1]
        )
