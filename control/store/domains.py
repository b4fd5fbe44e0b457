"""The domains that are served: made, moved to other next hops, removed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from control.auth import Viewer
from control.store import layers, leaving, names
from control.store.errors import Invalid, Missing, Taken
from control.store.layers import Change, Layer, Written
from monitoring.metrics import control as metrics
from syncd.layers import NextHop

MOST_NEXT_HOPS = 10
LONGEST_PAGE = 1000
_COLUMNS = (
    "select d.name, d.account_id, d.number, d.next_hops::text, d.created_at, l.revision, l.hash"
    " from domains d join layers l on l.scope = 'domain' and l.name = d.name"
)


@dataclass(frozen=True, slots=True)
class Domain:
    """One served domain; `revision` and `hash` are those of its layer."""

    name: str
    account_id: str
    number: int
    next_hops: tuple[NextHop, ...]
    created_at: datetime
    revision: int
    hash: str


async def listing(pool: Any, viewer: Viewer, *, after: str = "", limit: int = LONGEST_PAGE) -> Sequence[Domain]:
    """The viewer's domains by name, those behind `after`."""
    rows = await pool.fetch(
        _COLUMNS + " where ($1::text is null or d.account_id = $1) and d.name > $2 order by d.name limit $3",
        viewer.account_id,
        after,
        max(1, min(limit, LONGEST_PAGE)),
    )
    return [_domain(row) for row in rows]


async def get(pool: Any, viewer: Viewer, name: str) -> Domain:
    """One domain. Raises Missing."""
    row = await pool.fetchrow(
        _COLUMNS + " where d.name = $1 and ($2::text is null or d.account_id = $2)", name, viewer.account_id
    )
    if row is None:
        raise Missing(f"there is no domain “{name}”")
    return _domain(row)


async def create(pool: Any, viewer: Viewer, account_id: str, name: str, next_hops: Sequence[NextHop]) -> Written:
    """Serve a domain. Its name is spelled by `names.domain` already. Raises Taken, Missing (account), Invalid."""
    hops = checked(next_hops)
    if not viewer.sees(account_id):
        raise Missing(f"there is no account “{account_id}”")
    async with pool.acquire() as connection:
        async with connection.transaction():
            await layers.lock(connection, "domain", name)
            await _insert(connection, account_id, name, hops)
            layer = Layer("domain", name, account_id, next_hops=hops)
            written = await layers.save(connection, viewer, Change(layer, "created", None, {}))
        metrics.settings_changes.labels(viewer.door).inc()
        return written


async def set_next_hops(pool: Any, viewer: Viewer, name: str, next_hops: Sequence[NextHop]) -> Written:
    """Deliver a domain's mail elsewhere. Raises Missing, Invalid."""
    hops = checked(next_hops)

    async def edit(connection: Any, layer: Layer) -> Change | None:
        if layer.next_hops == hops:
            return None
        await connection.execute(
            "update domains set next_hops = $2::text::jsonb where name = $1", name, layers.json_text(hops)
        )
        before, after = {"next_hops": shown(layer.next_hops)}, {"next_hops": shown(hops)}
        return Change(replace(layer, next_hops=hops), "next hops", before, after)

    return await layers.change(pool, viewer, "domain", name, edit)


async def delete(pool: Any, viewer: Viewer, name: str) -> Written:
    """Serve a domain no longer; its kept mail goes at once (`control.quarantine.leaving`). Raises Missing."""
    async with pool.acquire() as connection, connection.transaction():
        await layers.lock(connection, "domain", name)
        layer = await layers.load(connection, viewer, "domain", name)
        generation, revision = await layers.next_revision(connection)
        number = await connection.fetchval("select number from domains where name = $1", name)
        await leaving.begin(connection, viewer, layer.account_id, number)
        for statement in (
            "delete from entries where scope = 'domain' and name = $1",
            "delete from layers where scope = 'domain' and name = $1",
            "delete from domains where name = $1",
        ):
            await connection.execute(statement, name)
        gone = replace(layer, revision=revision, hash="")
        await layers.record(connection, viewer, Change(gone, "deleted", {"next_hops": shown(layer.next_hops)}, None))
        stamp = await layers.publish(connection, revision, layer.key(), None)
        members = await layers.members(connection)
        return Written(generation, revision, "", layer.key(), members, changed=True, stamp=stamp)


def checked(next_hops: Sequence[NextHop]) -> tuple[NextHop, ...]:
    """Next hops as they are stored. Raises Invalid."""
    if not 0 < len(next_hops) <= MOST_NEXT_HOPS:
        raise Invalid("next_hops", f"name the server that takes the domain's mail: 1 to {MOST_NEXT_HOPS}")
    for index, hop in enumerate(next_hops):
        if not 0 < hop.port < 65536:
            raise Invalid(f"next_hops[{index}].port", "must be 1 to 65535")
        if not 0 <= hop.preference < 65536:
            raise Invalid(f"next_hops[{index}].preference", "must be 0 to 65535")
    return tuple(
        msgspec.structs.replace(hop, host=names.host(hop.host, f"next_hops[{index}].host"))
        for index, hop in enumerate(next_hops)
    )


def shown(next_hops: Sequence[NextHop]) -> list[dict[str, Any]]:
    """Next hops as JSON types, defaults filled in."""
    return [msgspec.structs.asdict(hop) for hop in next_hops]


async def _insert(connection: Any, account_id: str, name: str, hops: Sequence[NextHop]) -> None:
    if not await connection.fetchval("select true from accounts where id = $1", account_id):
        raise Missing(f"there is no account “{account_id}”")
    made = await connection.fetchval(
        "insert into domains (name, account_id, next_hops) values ($1, $2, $3::text::jsonb)"
        " on conflict (name) do nothing returning true",
        name,
        account_id,
        layers.json_text(hops),
    )
    if not made:
        raise Taken(f"“{name}” is served already")


def _domain(row: Any) -> Domain:
    return Domain(
        **{field: row[field] for field in ("name", "account_id", "number", "created_at", "revision", "hash")},
        next_hops=msgspec.json.decode(row["next_hops"], type=tuple[NextHop, ...]),
    )
