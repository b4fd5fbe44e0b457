"""The recipients of a domain: any local part, or only those listed, each with settings of its own if it has some.

A list may be long (200,000): it is cut into shards before the revision counter is taken, and travels on the bulk lane.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from control.auth import Viewer
from control.store import layers, names, settings
from control.store.errors import Invalid
from control.store.layers import Change, Layer, Settings, Written
from syncd import shards
from syncd.layers import Recipient, canonical

MOST_RECIPIENTS = 500_000
LONGEST_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class Recipients:
    """One page of a domain's listed recipients, by local part; `listed` False: any local part is taken."""

    listed: bool
    count: int
    page: Sequence[tuple[str, Settings]]
    revision: int
    hash: str


async def listing(pool: Any, viewer: Viewer, domain: str, *, after: str = "", limit: int = LONGEST_PAGE) -> Recipients:
    """The recipients behind the local part `after`. Raises Missing."""
    async with pool.acquire() as connection:
        layer = await layers.load(connection, viewer, "domain", domain)
        rows = await connection.fetch(
            "select local_part, settings::text from recipients where domain = $1 and local_part > $2"
            " order by local_part limit $3",
            domain,
            after,
            max(1, min(limit, LONGEST_PAGE)),
        )
    page = [(row["local_part"], msgspec.json.decode(row["settings"])) for row in rows]
    count = layer.recipients.count if layer.recipients else 0
    return Recipients(layer.recipients is not None, count, page, layer.revision, layer.hash)


async def set_all(pool: Any, viewer: Viewer, domain: str, wanted: Mapping[str, Settings] | None) -> Written:
    """Take mail for exactly these recipients; None: for any local part. Raises Missing, Invalid."""

    async def edit(connection: Any, layer: Layer) -> Change | None:
        await connection.execute("delete from recipients where domain = $1", domain)
        if wanted is None:
            return _change(layer, replace(layer, recipients=None))
        await _insert(connection, layer, wanted)
        return _change(layer, *await _with_recipients(connection, layer))

    return await layers.change(pool, viewer, "domain", domain, edit)


async def amend(
    pool: Any, viewer: Viewer, domain: str, added: Mapping[str, Settings], removed: Iterable[str]
) -> Written:
    """Add or replace some recipients, remove others; only listed ones exist from then on. Raises Missing, Invalid."""
    gone = list(removed)

    async def edit(connection: Any, layer: Layer) -> Change | None:
        replaced = [*gone, *added]
        await connection.execute(
            "delete from recipients where domain = $1 and local_part = any($2::text[])", domain, replaced
        )
        await _insert(connection, layer, added)
        return _change(layer, *await _with_recipients(connection, layer))

    return await layers.change(pool, viewer, "domain", domain, edit)


async def _insert(connection: Any, layer: Layer, wanted: Mapping[str, Settings]) -> None:
    if len(wanted) > MOST_RECIPIENTS:
        raise Invalid("recipients", f"must be at most {MOST_RECIPIENTS}")
    above = await layers.above(connection, layer)
    own = (*above, ("domain", layer.settings, layer.locks))
    rows = []
    for local_part, document in wanted.items():
        if document:
            # A layer below the domain, checked as one: locks above it hold, and no node may fail to read it.
            settings.check(Layer("domain", layer.name, layer.account_id), own, document)
        rows.append((layer.name, local_part, layers.json_text(document)))
    await connection.execute(
        "insert into recipients (domain, local_part, settings)"
        " select domain, local_part, settings::jsonb from unnest($1::text[], $2::text[], $3::text[])"
        " as given (domain, local_part, settings)",
        *([row[column] for row in rows] for column in range(3)),
    )


async def _with_recipients(connection: Any, layer: Layer) -> tuple[Layer, bool]:
    """The layer with shards of the recipients as they are now, which are stored too; whether that is a bulk change."""
    rows = await connection.fetch("select local_part, settings::text from recipients where domain = $1", layer.name)
    if len(rows) > MOST_RECIPIENTS:
        raise Invalid("recipients", f"must be at most {MOST_RECIPIENTS}")
    plain = canonical(Recipient())
    lines = {
        row["local_part"]: plain
        if row["settings"] == "{}"
        else canonical(Recipient(msgspec.json.decode(row["settings"])))
        for row in rows
    }
    # Hundreds of thousands of lines take a second: other requests go on meanwhile.
    made, bodies = await asyncio.to_thread(shards.build, lines)
    bulk = await layers.keep_shards(connection, bodies)
    return replace(layer, recipients=made), bulk


def _change(before: Layer, after: Layer, bulk: bool = False) -> Change | None:
    if before.recipients == after.recipients:
        return None
    return Change(after, "recipients", _counted(before), _counted(after), bulk)


def _counted(layer: Layer) -> dict[str, Any]:
    return {"recipients": "any" if layer.recipients is None else f"{layer.recipients.count} listed"}


def spelled(domain: str, text: str, field: str = "recipients") -> str:
    """The local part of what was typed: a local part, or an address of this domain. Raises Invalid."""
    local, at, host = text.rpartition("@")
    if at and names.domain(host, field) != domain:
        raise Invalid(field, f"“{text[:80]}” is no address of {domain}")
    return names.local_part(local if at else text, field)
