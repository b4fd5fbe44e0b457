"""Holds: mail that is neither deleted nor expired, an item alone or all of a domain's, until the hold is taken off."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from control.auth import Viewer
from control.quarantine import items
from control.store import audit, domains
from control.store.errors import Invalid, Missing

LONGEST_NOTE = 200
DOMAIN_FREE = "not exists (select from legal_holds h where h.number = q.domain)"
FREE = f"not q.hold and {DOMAIN_FREE}"
"""SQL: whether the row `q` of the quarantine may go."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A domain's hold."""

    domain: str
    note: str
    created_by: str
    created_at: datetime


async def set_item(pool: Any, viewer: Viewer, item_id: str, held: bool) -> None:
    """Put one mail on hold, or take its hold off; harmless again. Raises Missing."""
    kept = await items.get(pool, viewer, item_id, binned=True)
    if kept is None:
        raise Missing("there is no such mail")
    async with pool.acquire() as connection, connection.transaction():
        changed = await connection.fetchval(
            "update quarantine set hold = $3 where received_at = $1 and id = $2 and hold <> $3 returning true",
            kept.received_at,
            kept.id,
            held,
        )
        if changed:
            await audit.note(connection, viewer, "hold" if held else "hold taken off", kept.id)


async def set_domain(pool: Any, viewer: Viewer, name: str, note: str = "") -> Hold:
    """Put all mail of a domain on hold, what is still to come too; harmless again. Raises Missing, Invalid."""
    if len(note) > LONGEST_NOTE:
        raise Invalid("note", f"must be at most {LONGEST_NOTE} characters")
    found = await domains.get(pool, viewer, name)
    async with pool.acquire() as connection, connection.transaction():
        made = await connection.fetchval(
            "insert into legal_holds (domain, account_id, number, note, created_by) values ($1, $2, $3, $4, $5)"
            " on conflict (domain) do nothing returning true",
            found.name,
            found.account_id,
            found.number,
            note,
            viewer.author,
        )
        if made:
            await audit.note(connection, viewer, "hold", found.name, note=note)
    return (await listing(pool, viewer, name))[0]


async def lift_domain(pool: Any, viewer: Viewer, name: str) -> None:
    """Take a domain's hold off, also that of a domain that is served no longer. Raises Missing."""
    async with pool.acquire() as connection, connection.transaction():
        gone = await connection.fetchval(
            "delete from legal_holds where domain = $1 and ($2::text is null or account_id = $2) returning true",
            name,
            viewer.account_id,
        )
        if not gone:
            raise Missing(f"there is no hold on “{name[:100]}”")
        await audit.note(connection, viewer, "hold taken off", name)


async def listing(pool: Any, viewer: Viewer, name: str | None = None) -> list[Hold]:
    """The holds of the viewer's domains, or of one."""
    rows = await pool.fetch(
        "select domain, note, created_by, created_at from legal_holds"
        " where ($1::text is null or account_id = $1) and ($2::text is null or domain = $2) order by domain",
        viewer.account_id,
        name,
    )
    return [Hold(**dict(row)) for row in rows]


async def on_day(connection: Any, begin: datetime) -> bool:
    """Whether anything received on this day is on hold."""
    found: bool = await connection.fetchval(
        "select exists (select from quarantine q where q.received_at >= $1 and q.received_at < $2"
        " and (q.hold or q.domain in (select number from legal_holds)))",
        begin,
        begin + timedelta(days=1),
    )
    return found
