"""Allow and deny entries of a domain, an account or the system; nodes get them as shards of their layer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from ulid import ULID

from control.auth import Viewer
from control.store import layers, names
from control.store.errors import Invalid, Missing, Taken
from control.store.layers import Change, Layer, Scope, Written
from syncd import shards
from syncd.layers import Entry, canonical

Kind = Literal["allow", "deny"]

MOST_ENTRIES = 100_000
LONGEST_NOTE = 200
LONGEST_PAGE = 1000
_COLUMNS = "select id, kind, match, expires, authenticated_only, note, created_at from entries"


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry as it is stored; `match` is an address, a domain with its subdomains, or a network."""

    id: str
    kind: Kind
    match: str
    expires: datetime | None
    authenticated_only: bool
    note: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry as asked for."""

    kind: Kind
    match: str
    expires: datetime | None = None
    authenticated_only: bool = False
    note: str = ""

    def checked(self) -> "Wanted":
        """The entry as it is stored. Raises Invalid."""
        if len(self.note) > LONGEST_NOTE or "\x00" in self.note:
            raise Invalid("note", f"must be at most {LONGEST_NOTE} characters of text")
        if self.expires is not None and self.expires.tzinfo is None:
            raise Invalid("expires", "must name its time zone, e.g. 2026-12-31T00:00:00Z")
        return replace(self, match=names.match(self.match))


async def listing(
    pool: Any, viewer: Viewer, scope: Scope, name: str, *, after: str = "", limit: int = LONGEST_PAGE
) -> Sequence[Listed]:
    """Entries in the order they were made, those behind the id `after`. Raises Missing."""
    async with pool.acquire() as connection:
        await layers.load(connection, viewer, scope, name)
        rows = await connection.fetch(
            _COLUMNS + " where scope = $1 and name = $2 and id > $3 order by id limit $4",
            scope,
            name,
            after,
            max(1, min(limit, LONGEST_PAGE)),
        )
    return [Listed(**dict(row)) for row in rows]


async def get(pool: Any, viewer: Viewer, scope: Scope, name: str, entry_id: str) -> Listed:
    """One entry. Raises Missing."""
    async with pool.acquire() as connection:
        await layers.load(connection, viewer, scope, name)
        return await _get(connection, scope, name, entry_id)


async def add(
    pool: Any, viewer: Viewer, scope: Scope, name: str, wanted: Wanted, *, instead: bool = False
) -> tuple[str, Written]:
    """Make an entry; returns its id. Raises Missing, Invalid, and Taken when the sender has one already, unless
    `instead`: then the new one takes its place."""
    entry, entry_id = wanted.checked(), str(ULID())

    async def edit(connection: Any, layer: Layer) -> Change | None:
        if layer.entries.count >= MOST_ENTRIES:
            raise Invalid("match", f"there are {MOST_ENTRIES} entries already; remove some first")
        old = await _displace(connection, layer, entry.match) if instead else None
        await _insert(connection, layer, entry_id, entry)
        before = {"entries": [old]} if old else None
        after = {"entries": [_told(entry)]}
        return Change(await _with_entries(connection, layer), "entry added", before, after)

    return entry_id, await layers.change(pool, viewer, scope, name, edit)


async def remove(pool: Any, viewer: Viewer, scope: Scope, name: str, entry_id: str) -> Written:
    """Remove an entry. Raises Missing."""

    async def edit(connection: Any, layer: Layer) -> Change | None:
        old = await _get(connection, scope, name, entry_id)
        await connection.execute("delete from entries where id = $1", entry_id)
        before = {"entries": [_told(old)]}
        return Change(await _with_entries(connection, layer), "entry removed", before, None)

    return await layers.change(pool, viewer, scope, name, edit)


async def _get(connection: Any, scope: Scope, name: str, entry_id: str) -> Listed:
    row = await connection.fetchrow(_COLUMNS + " where scope = $1 and name = $2 and id = $3", scope, name, entry_id)
    if row is None:
        raise Missing(f"there is no entry “{entry_id[:40]}”")
    return Listed(**dict(row))


async def _displace(connection: Any, layer: Layer, match: str) -> dict[str, Any] | None:
    row = await connection.fetchrow(
        "delete from entries where scope = $1 and name = $2 and match = $3"
        " returning id, kind, match, expires, authenticated_only, note, created_at",
        layer.scope,
        layer.name,
        match,
    )
    return _told(Listed(**dict(row))) if row else None


async def _insert(connection: Any, layer: Layer, entry_id: str, entry: Wanted) -> None:
    made = await connection.fetchval(
        "insert into entries (id, scope, name, kind, match, expires, authenticated_only, note)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (scope, name, match) do nothing returning true",
        entry_id,
        layer.scope,
        layer.name,
        entry.kind,
        entry.match,
        entry.expires,
        entry.authenticated_only,
        entry.note,
    )
    if not made:
        raise Taken(f"“{entry.match}” has an entry already; remove it first")


async def _with_entries(connection: Any, layer: Layer) -> Layer:
    """The layer with shards of the entries as they are now, which are stored too."""
    rows = await connection.fetch(_COLUMNS + " where scope = $1 and name = $2", layer.scope, layer.name)
    lines = {row["match"]: canonical(_entry(Listed(**dict(row)))) for row in rows}
    made, bodies = await asyncio.to_thread(shards.build, lines)
    await layers.keep_shards(connection, bodies)
    return replace(layer, entries=made)


def _entry(listed: Listed) -> Entry:
    return Entry(
        id=listed.id,
        kind=listed.kind,
        match=listed.match,
        expires=listed.expires.timestamp() if listed.expires else None,
        authenticated_only=listed.authenticated_only,
        note=listed.note,
    )


def _told(entry: Listed | Wanted) -> dict[str, Any]:
    expires = {"expires": entry.expires.astimezone(UTC).isoformat()} if entry.expires else {}
    only = {"authenticated_only": True} if entry.authenticated_only else {}
    return {"kind": entry.kind, "match": entry.match, **expires, **only}
