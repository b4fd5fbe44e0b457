"""Layers as rows: one for the system, one for each account, one for each domain; and the way each is changed.

Every change goes through `change`: one transaction that takes the layer's own lock, lets the caller make the new
layer, then takes the revision counter's row (held to commit, so that commit order is revision order), writes the row,
its history, and the outbox row that the publisher carries into etcd, and wakes the publisher (design, section 5).
The layer's lock comes first, so that validating and cutting long lists into shards keeps nobody else waiting.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from control.auth import Viewer
from control.store.errors import Missing
from monitoring.metrics import control as metrics
from syncd import keys
from syncd.layers import AccountLayer, DomainLayer, NextHop, Shards, SystemLayer, canonical, digest

Scope = Literal["system", "account", "domain"]
Settings = Mapping[str, Mapping[str, Any]]

CHANNEL = "outbox"
"""What the publisher listens to (PostgreSQL NOTIFY)."""
STAMP = "(extract(epoch from committed_at) * 1000000)::bigint"
"""When an outbox row was committed, in µs."""
INTERACTIVE = 4_201_842
"""Advisory lock that every interactive change shares: whoever writes a bulk change sees by it that others wait."""
BULK_BYTES = 64 * 1024
"""New shards beyond this make a change a bulk one."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as it stands, with its place; `revision` 0 and `hash` "" when it was never written."""

    scope: Scope
    name: str
    account_id: str = ""
    settings: Settings = field(default_factory=dict)
    locks: tuple[str, ...] = ()
    entries: Shards = field(default_factory=Shards)
    recipients: Shards | None = None
    next_hops: tuple[NextHop, ...] = ()
    revision: int = 0
    hash: str = ""

    def published(self) -> SystemLayer | AccountLayer | DomainLayer:
        """The layer as nodes get it."""
        settings = {section: dict(fields) for section, fields in self.settings.items()}
        if self.scope == "system":
            return SystemLayer(settings, self.locks, self.entries)
        if self.scope == "account":
            return AccountLayer(self.name, settings, self.locks, self.entries)
        return DomainLayer(
            self.name, self.account_id, self.next_hops, settings, self.locks, self.entries, self.recipients
        )

    def key(self) -> str:
        """Its key in etcd."""
        if self.scope == "system":
            return keys.SYSTEM
        return keys.account(self.name) if self.scope == "account" else keys.domain(self.name)


@dataclass(frozen=True, slots=True)
class Change:
    """A layer as it is to be, and what the history tells: the act in a word or two, what it changed, before and after.

    A `bulk` change brings so many new shards that its way to the nodes is no measure of that of others.
    """

    layer: Layer
    act: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """A change that is committed, or the present state when nothing was different.

    `members` are the nodes that have to apply it; `generation` and `revision` go together. `stamp` is when it was
    committed, in µs of the database's clock, 0 when that is not known. `asked_at` is our monotonic clock when COMMIT
    was sent: a report can overtake its answer, so the way to the nodes is timed from there.
    """

    generation: int
    revision: int
    hash: str
    key: str
    members: tuple[str, ...]
    changed: bool
    stamp: int = 0
    asked_at: float = 0.0


Edit = Callable[[Any, Layer], Awaitable[Change | None]]
"""Given the connection inside the transaction and the layer as it stands: the change; None for none.
Raises StoreError, and then nothing is stored."""


async def load(connection: Any, viewer: Viewer, scope: Scope, name: str) -> Layer:
    """A layer the viewer may see. Raises Missing; the system's is shown to operators alone."""
    account_id, next_hops = await _place(connection, viewer, scope, name)
    row = await connection.fetchrow(
        "select settings::text, locks::text, entries::text, recipients::text, revision, hash"
        " from layers where scope = $1 and name = $2",
        scope,
        name,
    )
    if row is None:
        return Layer(scope, name, account_id, next_hops=next_hops)
    return of_row(scope, name, account_id, next_hops, row)


def of_row(scope: Scope, name: str, account_id: str, next_hops: tuple[NextHop, ...], row: Any) -> Layer:
    """A layer from its row: settings, locks, entries and recipients as text, revision, hash."""
    return Layer(
        scope,
        name,
        account_id,
        settings=msgspec.json.decode(row["settings"]),
        locks=tuple(msgspec.json.decode(row["locks"])),
        entries=msgspec.json.decode(row["entries"], type=Shards),
        recipients=msgspec.json.decode(row["recipients"], type=Shards) if row["recipients"] else None,
        next_hops=next_hops,
        revision=row["revision"],
        hash=row["hash"],
    )


async def above(connection: Any, layer: Layer) -> list[tuple[str, Settings, Sequence[str]]]:
    """The weaker layers that this one inherits from, weakest first, as (scope, settings, locks)."""
    rows = await connection.fetch(
        "select scope, settings::text, locks::text from layers"
        " where scope = 'system' or (scope = 'account' and name = $1) order by scope desc",
        layer.account_id,
    )
    return [
        (row["scope"], msgspec.json.decode(row["settings"]), msgspec.json.decode(row["locks"]))
        for row in rows
        if row["scope"] != layer.scope and layer.scope != "system"
    ]


async def change(pool: Any, viewer: Viewer, scope: Scope, name: str, edit: Edit) -> Written:
    """Change one layer as `edit` says, in one transaction. Raises Missing, and whatever `edit` raises."""
    async with pool.acquire() as connection:
        async with connection.transaction():
            await lock(connection, scope, name)
            layer = await load(connection, viewer, scope, name)
            edited = await edit(connection, layer)
            if edited is None:
                return await present(connection, layer)
            written = replace(await save(connection, viewer, edited), asked_at=time.monotonic())
        metrics.settings_changes.labels(viewer.door).inc()
        return written


async def lock(connection: Any, scope: str, name: str) -> None:
    """Wait until no other transaction changes this layer (or node); held to the end of ours, as is the sign that an
    interactive change is under way."""
    await connection.execute(
        "select pg_advisory_xact_lock_shared($2), pg_advisory_xact_lock(hashtextextended($1, 0))",
        f"{scope} {name}",
        INTERACTIVE,
    )


async def is_busy(pool: Any) -> bool:
    """Whether an interactive change is under way in any process. The lock that tells is let go with the statement."""
    return not await pool.fetchval("select pg_try_advisory_xact_lock($1)", INTERACTIVE)


async def save(connection: Any, viewer: Viewer, made: Change) -> Written:
    """Write a changed layer under the next revision, inside the caller's transaction."""
    value = canonical(made.layer.published())
    generation, revision = await next_revision(connection)
    saved = replace(made.layer, revision=revision, hash=digest(value))
    await connection.execute(
        "insert into layers (scope, name, settings, locks, entries, recipients, revision, hash)"
        " values ($1, $2, $3::text::jsonb, $4::text::jsonb, $5::text::jsonb, $6::text::jsonb, $7, $8)"
        " on conflict (scope, name) do update set settings = excluded.settings, locks = excluded.locks,"
        " entries = excluded.entries, recipients = excluded.recipients, revision = excluded.revision,"
        " hash = excluded.hash",
        saved.scope,
        saved.name,
        json_text(saved.settings),
        json_text(saved.locks),
        json_text(saved.entries),
        None if saved.recipients is None else json_text(saved.recipients),
        revision,
        saved.hash,
    )
    await record(connection, viewer, replace(made, layer=saved))
    stamp = await publish(connection, revision, saved.key(), value, bulk=made.bulk)
    return Written(generation, revision, saved.hash, saved.key(), await members(connection), changed=True, stamp=stamp)


async def present(connection: Any, layer: Layer) -> Written:
    """The state of a layer that was not changed."""
    return replace(await at(connection, layer.revision), hash=layer.hash, key=layer.key())


async def at(connection: Any, revision: int) -> Written:
    """A committed revision as something that members have to reach; no key of its own."""
    row = await connection.fetchrow(
        f"select generation, (select max({STAMP}) from outbox where outbox.revision = $1) as stamp"
        " from revision_counter",
        revision,
    )
    stamp = row["stamp"] or 0
    return Written(row["generation"], revision, "", "", await members(connection), changed=False, stamp=stamp)


async def newest(connection: Any) -> Written:
    """The newest revision as something that members have to reach; no key of its own."""
    return await at(connection, await connection.fetchval("select revision from revision_counter"))


async def next_revision(connection: Any) -> tuple[int, int]:
    """(generation, revision) of the change under way; everyone else who changes something waits for our commit."""
    row = await connection.fetchrow(
        "update revision_counter set revision = revision + 1 returning generation, revision"
    )
    return row["generation"], row["revision"]


async def record(connection: Any, viewer: Viewer, made: Change) -> None:
    """Write the history of a change under its layer's revision; an empty hash of the layer says that it is gone."""
    layer = made.layer
    await connection.execute(
        "insert into history (revision, scope, name, account_id, author, door, act, before, after, hash)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9::text::jsonb, $10)",
        layer.revision,
        layer.scope,
        layer.name,
        layer.account_id,
        viewer.author,
        viewer.door,
        made.act,
        None if made.before is None else json_text(made.before),
        None if made.after is None else json_text(made.after),
        layer.hash,
    )


async def publish(connection: Any, revision: int, key: str, value: bytes | None, *, bulk: bool = False) -> int:
    """Put a key's new value (None: none any more) into the outbox and wake the publisher; returns the stamp."""
    stamp: int = await connection.fetchval(
        f"insert into outbox (revision, key, value, bulk) values ($1, $2, $3, $4) returning {STAMP}",
        revision,
        key,
        value,
        bulk,
    )
    await connection.execute("select pg_notify($1, $2)", CHANNEL, str(revision))
    return stamp


async def members(connection: Any) -> tuple[str, ...]:
    """The nodes that a change has to reach: joined and draining ones, heard or not."""
    rows = await connection.fetch("select name from nodes where state <> 'drained' order by name")
    return tuple(row["name"] for row in rows)


async def keep_shards(connection: Any, bodies: Mapping[str, bytes]) -> bool:
    """Store the shards that are new. Returns whether they are so many that the change travels as a bulk one."""
    rows = await connection.fetch(
        "insert into shards (hash, body) select * from unnest($1::text[], $2::bytea[])"
        " on conflict (hash) do nothing returning length(body) as bytes",
        list(bodies),
        list(bodies.values()),
    )
    new_bytes: int = sum(row["bytes"] for row in rows)
    return new_bytes > BULK_BYTES


def json_text(value: Any) -> str:
    """JSON with sorted names, for a jsonb column."""
    return msgspec.json.encode(value, order="sorted").decode()


def hops(row: Any) -> tuple[NextHop, ...]:
    """Next hops from a domain's row."""
    return msgspec.json.decode(row["next_hops"], type=tuple[NextHop, ...])


async def _place(connection: Any, viewer: Viewer, scope: Scope, name: str) -> tuple[str, tuple[NextHop, ...]]:
    """The account a layer belongs to and, for a domain, its next hops. Raises Missing."""
    if scope == "system" and viewer.is_operator:
        return "", ()
    if (
        scope == "account"
        and viewer.sees(name)
        and await connection.fetchval("select true from accounts where id = $1", name)
    ):
        return name, ()
    if scope == "domain":
        row = await connection.fetchrow("select account_id, next_hops::text from domains where name = $1", name)
        if row and viewer.sees(row["account_id"]):
            return row["account_id"], hops(row)
    raise Missing(f"there is no {scope} “{name}”")
