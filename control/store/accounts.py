"""Accounts: a customer with domains, people and tokens. Made by the operator."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ulid import ULID

from control import auth
from control.auth import Viewer
from control.store import audit, layers
from control.store.errors import Forbidden, Invalid, Missing
from control.store.layers import Change, Layer, Scope, Written

LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Account:
    """One customer."""

    id: str
    name: str
    created_at: datetime


async def listing(pool: Any, viewer: Viewer, *, after: str = "", limit: int = 1000) -> Sequence[Account]:
    """The accounts the viewer may see, by id, those behind `after`."""
    rows = await pool.fetch(
        "select id, name, created_at from accounts"
        " where ($1::text is null or id = $1) and id > $2 order by id limit $3",
        viewer.account_id,
        after,
        limit,
    )
    return [Account(**dict(row)) for row in rows]


async def first(pool: Any) -> str:
    """Id of the oldest account. Raises Invalid when there is none."""
    account_id = await pool.fetchval("select id from accounts order by created_at, id limit 1")
    if account_id is None:
        raise Invalid("account", "there is no account yet; make one first")
    return str(account_id)


async def create(pool: Any, viewer: Viewer, name: str) -> Account:
    """A new account with a layer of its own. Raises Forbidden, Invalid."""
    require_operator(viewer)
    name = name.strip()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise Invalid("name", f"must be 1 to {LONGEST_NAME} printable characters")
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            "insert into accounts (id, name) values ($1, $2) returning id, name, created_at", str(ULID()), name
        )
        await ensure_layer(connection, viewer, "account", row["id"])
        await audit.note(connection, viewer, "made an account", row["id"], name=name)
    return Account(**dict(row))


async def add_token(pool: Any, viewer: Viewer, account_id: str, name: str) -> str:
    """A new bearer token for an account; shown this once. Raises Missing, Invalid."""
    if not viewer.sees(account_id) or not await pool.fetchval("select true from accounts where id = $1", account_id):
        raise Missing(f"there is no account “{account_id[:40]}”")
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise Invalid("name", f"must be 1 to {LONGEST_NAME} printable characters")
    token = auth.make_token()
    await auth.add_token(pool, account_id, name, token)
    await audit.note(pool, viewer, "made a token", account_id, name=name)
    return token


async def ensure_layer(connection: Any, viewer: Viewer, scope: Scope, name: str) -> Written | None:
    """Publish an empty layer where there is none yet, inside the caller's transaction; None when there is one."""
    await layers.lock(connection, scope, name)
    if await connection.fetchval("select true from layers where scope = $1 and name = $2", scope, name):
        return None
    layer = Layer(scope, name, name if scope == "account" else "")
    return await layers.save(connection, viewer, Change(layer, "created", None, {}))


def require_operator(viewer: Viewer) -> None:
    """Raises Forbidden for everybody but the operator."""
    if not viewer.is_operator:
        raise Forbidden("this is for the operator of the installation")
