"""Bulk changes: one merge patch into the settings of many domains.

Everything is checked before anything is stored; then the change is a row with an item for each domain, and
`control.bulk` writes it in small transactions, so that it goes on after a crash where it was. Each domain gets a
revision and a history of its own, as if it had been changed alone.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ulid import ULID

from control.auth import Viewer
from control.store import batch, layers, settings
from control.store.batch import Above
from control.store.errors import Invalid, Missing
from control.store.layers import Change, Layer

MOST_DOMAINS = 200_000
CHECKED_AT_ONCE = 250
"""Between two breaths of the event loop; one takes some 0.1 ms."""
SHOWN_FAILURES = 100
KEPT_DAYS = 30


@dataclass(frozen=True, slots=True)
class Bulk:
    """How far a bulk change is. (generation, revision) is the last one it wrote, (0, 0) for none."""

    id: str
    state: str
    author: str
    waiting: int
    changed: int
    same: int
    failed: int
    generation: int
    revision: int
    failures: Sequence[tuple[str, str]]
    """(domain, reason), the first `SHOWN_FAILURES`."""


async def begin(
    pool: Any,
    viewer: Viewer,
    patch: Mapping[str, Any],
    *,
    names: Sequence[str] | None = None,
    account: str | None = None,
) -> str:
    """Take a bulk change on; returns its id. `names` are spelled already; else all of `account`, else all one may see.

    Raises Missing for a domain or account that is not there, Invalid for one whose settings this cannot go into: then
    nothing is stored.
    """
    async with pool.acquire() as connection:
        wanted = await _targets(connection, viewer, names, account)
        for start in range(0, len(wanted), CHECKED_AT_ONCE):
            await _check(connection, viewer, wanted[start : start + CHECKED_AT_ONCE], patch)
            await asyncio.sleep(0)
        return await _store(connection, viewer, patch, wanted)


async def get(pool: Any, viewer: Viewer, bulk_id: str) -> Bulk:
    """How far it is. Raises Missing."""
    row = await pool.fetchrow(
        "select id, state, author, generation, revision,"
        " count(*) filter (where outcome = 'waiting') as waiting,"
        " count(*) filter (where outcome = 'changed') as changed,"
        " count(*) filter (where outcome = 'same') as same, count(*) filter (where outcome = 'failed') as failed"
        " from bulk_changes join bulk_items on bulk = id"
        " where id = $1 and ($2::text is null or account_id = $2) group by id",
        bulk_id,
        viewer.account_id,
    )
    if row is None:
        raise Missing("there is no such bulk change")
    failures = await pool.fetch(
        "select domain, reason from bulk_items where bulk = $1 and outcome = 'failed' order by domain limit $2",
        bulk_id,
        SHOWN_FAILURES,
    )
    return Bulk(**dict(row), failures=[(each["domain"], each["reason"]) for each in failures])


async def stop(pool: Any, viewer: Viewer, bulk_id: str) -> Bulk:
    """Leave the domains that wait as they are; those that were changed stay changed. Raises Missing."""
    await pool.execute(
        "update bulk_changes set state = 'stopped', ended_at = now()"
        " where id = $1 and state = 'running' and ($2::text is null or account_id = $2)",
        bulk_id,
        viewer.account_id,
    )
    return await get(pool, viewer, bulk_id)


def change(layer: Layer | None, above: Mapping[str, Above], name: str, patch: Mapping[str, Any]) -> Change | None:
    """What the patch makes of a domain; None for nothing. Raises Missing, Invalid."""
    if layer is None:
        raise Missing(f"there is no domain “{name}”")
    return settings.patched(layer, above[layer.account_id], patch)


async def _targets(connection: Any, viewer: Viewer, names: Sequence[str] | None, account: str | None) -> list[str]:
    if names is None:
        if account is not None and not viewer.sees(account):
            raise Missing(f"there is no account “{account}”")
        rows = await connection.fetch(
            "select name from domains where ($1::text is null or account_id = $1) order by name",
            account if account is not None else viewer.account_id,
        )
        wanted = [row["name"] for row in rows]
    else:
        wanted = sorted(set(names))
    if not 0 < len(wanted) <= MOST_DOMAINS:
        raise Invalid("domains", f"a bulk change is for 1 to {MOST_DOMAINS} domains, not {len(wanted)}")
    return wanted


async def _check(connection: Any, viewer: Viewer, names: Sequence[str], patch: Mapping[str, Any]) -> None:
    found = await batch.load(connection, viewer, names)
    above = await batch.above(connection, found)
    for name in names:
        try:
            change(found.get(name), above, name, patch)
        except Invalid as error:
            raise Invalid(error.field, f"{error.reason} (at {name}; nothing was stored)") from error


async def _store(connection: Any, viewer: Viewer, patch: Mapping[str, Any], names: Sequence[str]) -> str:
    bulk_id = str(ULID())
    async with connection.transaction():
        await connection.execute(
            "delete from bulk_changes where state <> 'running' and ended_at < now() - make_interval(days => $1)",
            KEPT_DAYS,
        )
        await connection.execute(
            "insert into bulk_changes (id, account_id, author, role, door, patch)"
            " values ($1, $2, $3, $4, $5, $6::text::jsonb)",
            bulk_id,
            viewer.account_id,
            viewer.author,
            viewer.role,
            viewer.door,
            layers.json_text(patch),
        )
        await connection.execute(
            "insert into bulk_items (bulk, domain) select $1, name from unnest($2::text[]) as wanted (name)",
            bulk_id,
            list(names),
        )
    return bulk_id
