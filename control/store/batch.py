"""Many domains' layers at once: read in one query, written in one transaction of few statements.

What `layers.change` does for one layer, without its round trips for each: the revision counter's row, for which every
other change waits, is held some milliseconds for a whole batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from control.auth import Viewer
from control.store import layers
from control.store.layers import Change, Layer, Settings
from syncd.layers import canonical, digest

Above = Sequence[tuple[str, Settings, Sequence[str]]]


async def load(connection: Any, viewer: Viewer, names: Sequence[str]) -> dict[str, Layer]:
    """The layers of those of these domains that the viewer may see."""
    rows = await connection.fetch(
        "select d.name, d.account_id, d.next_hops::text, l.settings::text, l.locks::text, l.entries::text,"
        " l.recipients::text, l.revision, l.hash"
        " from domains d join layers l on l.scope = 'domain' and l.name = d.name where d.name = any($1::text[])",
        list(names),
    )
    found = (layers.of_row("domain", row["name"], row["account_id"], layers.hops(row), row) for row in rows)
    return {layer.name: layer for layer in found if viewer.sees(layer.account_id)}


async def above(connection: Any, some: Mapping[str, Layer]) -> dict[str, Above]:
    """What these domains inherit, by account."""
    by_account = {layer.account_id: layer for layer in some.values()}
    return {account: await layers.above(connection, layer) for account, layer in by_account.items()}


async def lock(connection: Any, names: Sequence[str]) -> None:
    """Wait until nobody else changes any of these domains; held to the end of the transaction.

    In the order of the names, and before the revision counter's row, as everybody takes them: nobody waits in a circle.
    """
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended('domain ' || name, 0))"
        " from (select name from unnest($1::text[]) as wanted (name) order by name) as sorted",
        list(names),
    )


async def save(connection: Any, viewer: Viewer, changes: Sequence[Change]) -> tuple[int, int]:
    """Write changed layers, each under a revision of its own, as bulk. Returns the last (generation, revision)."""
    values = [canonical(made.layer.published()) for made in changes]
    row = await connection.fetchrow(
        "update revision_counter set revision = revision + $1 returning generation, revision", len(changes)
    )
    first = row["revision"] - len(changes) + 1
    saved = [
        replace(made, layer=replace(made.layer, revision=first + number, hash=digest(value)))
        for number, (made, value) in enumerate(zip(changes, values, strict=True))
    ]
    await _layers(connection, saved)
    await _history(connection, viewer, saved)
    await connection.execute(
        "insert into outbox (revision, key, value, bulk)"
        " select revision, key, value, true"
        " from unnest($1::bigint[], $2::text[], $3::bytea[]) as new (revision, key, value)",
        [made.layer.revision for made in saved],
        [made.layer.key() for made in saved],
        values,
    )
    await connection.execute("select pg_notify($1, $2)", layers.CHANNEL, str(row["revision"]))
    return row["generation"], row["revision"]


async def _layers(connection: Any, saved: Sequence[Change]) -> None:
    """Only what a bulk change can touch: settings and locks."""
    await connection.execute(
        "update layers set settings = new.settings::jsonb, locks = new.locks::jsonb, revision = new.revision,"
        " hash = new.hash"
        " from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])"
        " as new (name, settings, locks, revision, hash) where layers.scope = 'domain' and layers.name = new.name",
        [made.layer.name for made in saved],
        [layers.json_text(made.layer.settings) for made in saved],
        [layers.json_text(made.layer.locks) for made in saved],
        [made.layer.revision for made in saved],
        [made.layer.hash for made in saved],
    )


async def _history(connection: Any, viewer: Viewer, saved: Sequence[Change]) -> None:
    await connection.execute(
        "insert into history (revision, scope, name, account_id, author, door, act, before, after, hash)"
        " select revision, 'domain', name, account_id, $1, $2, act, before::jsonb, after::jsonb, hash"
        " from unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])"
        " as new (revision, name, account_id, act, before, after, hash)",
        viewer.author,
        viewer.door,
        [made.layer.revision for made in saved],
        [made.layer.name for made in saved],
        [made.layer.account_id for made in saved],
        [made.act for made in saved],
        [layers.json_text(made.before) for made in saved],
        [layers.json_text(made.after) for made in saved],
        [made.layer.hash for made in saved],
    )
