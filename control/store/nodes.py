"""The fleet: which nodes belong to it, how one joins by a one-time token, drains, and leaves.

Membership travels like settings: each change is a revision and an outbox row with the node's `Member` value.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from control.auth import Viewer
from control.store import audit, layers
from control.store.accounts import require_operator
from control.store.errors import Invalid, Missing, Taken
from syncd import keys
from syncd.layers import Member, canonical, digest

TOKEN_LIFE = timedelta(minutes=15)
TOKEN_PREFIX = "mxj_"
State = Literal["joined", "draining", "drained"]
_COLUMNS = "select name, state, spool_host, spool_port, smtp_host, smtp_port, scrape::text, joined_at from nodes"

_HOLDS = "token_hash = $1 and used_at is null and expires_at > now()"


@dataclass(frozen=True, slots=True)
class Node:
    """One member of the fleet; `scrape` maps each of its processes to its metrics URL."""

    name: str
    state: State
    spool_host: str
    spool_port: int
    smtp_host: str
    smtp_port: int
    scrape: Mapping[str, str]
    joined_at: datetime

    def member(self) -> Member:
        """The node as the others know it."""
        return Member(self.name, self.spool_host, self.spool_port, self.smtp_host, self.smtp_port, self.state)


@dataclass(frozen=True, slots=True)
class Joining:
    """What a node tells of itself when it joins; names and ports are checked at the door."""

    name: str
    spool_host: str
    spool_port: int
    smtp_host: str
    smtp_port: int
    scrape: Mapping[str, str]

    @property
    def place(self) -> tuple[str, int, str, int]:
        """Where it listens; two nodes of one name can be told apart by this."""
        return self.spool_host, self.spool_port, self.smtp_host, self.smtp_port


async def listing(pool: Any) -> Sequence[Node]:
    """Every member, by name, heard or not."""
    return [_node(row) for row in await pool.fetch(_COLUMNS + " order by name")]


async def make_token(pool: Any, viewer: Viewer) -> tuple[str, timedelta]:
    """A token that lets one node join, once, and how long it holds. Raises Forbidden."""
    require_operator(viewer)
    token = TOKEN_PREFIX + secrets.token_urlsafe(24)
    await pool.execute(
        "insert into join_tokens (token_hash, expires_at, created_by) values ($1, now() + $2::interval, $3)",
        _hash(token),
        TOKEN_LIFE,
        viewer.author,
    )
    await audit.note(pool, viewer, "made a join token", "nodes")
    return token, TOKEN_LIFE


async def require_token(pool: Any, token: str) -> None:
    """Raises Invalid for a join token that `join` would not take; spends nothing."""
    if not await pool.fetchval(f"select true from join_tokens where {_HOLDS}", _hash(token)):
        raise _not_a_token()


async def join(pool: Any, token: str, joining: Joining) -> tuple[int, int]:
    """Make a node a member; returns the (generation, revision) that it has to pass before it is ready.

    A node that lost its answer may ask again with a new token. Raises Invalid for a token that is wrong, used or
    too old; Taken when another place has this name: a node is never pushed out by a namesake.
    """
    async with pool.acquire() as connection, connection.transaction():
        await layers.lock(connection, "node", joining.name)
        author = await _use(connection, token)
        row = await connection.fetchrow(_COLUMNS + " where name = $1", joining.name)
        if row and (old := _node(row)).member() != _member(joining, old.state) and old.state != "drained":
            raise Taken(f"a node “{joining.name}” has joined from elsewhere; remove it first, or choose another name")
        await connection.execute(
            "insert into nodes (name, spool_host, spool_port, smtp_host, smtp_port, scrape)"
            " values ($1, $2, $3, $4, $5, $6::text::jsonb) on conflict (name) do update set state = 'joined',"
            " spool_host = excluded.spool_host, spool_port = excluded.spool_port, smtp_host = excluded.smtp_host,"
            " smtp_port = excluded.smtp_port, scrape = excluded.scrape, joined_at = now()",
            joining.name,
            *joining.place,
            layers.json_text(joining.scrape),
        )
        return await _publish(connection, author, joining.name, "joined", _member(joining, "joined"))


async def drain(pool: Any, viewer: Viewer, name: str) -> int:
    """Tell a node to take no more mail and ship what it holds; returns the revision. Harmless again.

    Raises Forbidden, Missing.
    """
    require_operator(viewer)
    async with pool.acquire() as connection, connection.transaction():
        await layers.lock(connection, "node", name)
        row = await connection.fetchrow(
            "update nodes set state = 'draining' where name = $1 and state = 'joined'"
            " returning name, state, spool_host, spool_port, smtp_host, smtp_port, scrape::text, joined_at",
            name,
        )
        if row:
            return (await _publish(connection, viewer.author, name, "draining", _node(row).member()))[1]
        if not await connection.fetchval("select true from nodes where name = $1", name):
            raise Missing(f"there is no node “{name[:40]}”")
        return int(await connection.fetchval("select revision from revision_counter"))


async def remove(pool: Any, viewer: Viewer, name: str) -> int:
    """Take a node out of the fleet; returns the revision. Raises Forbidden, Missing."""
    require_operator(viewer)
    async with pool.acquire() as connection, connection.transaction():
        await layers.lock(connection, "node", name)
        if not await connection.fetchval("delete from nodes where name = $1 returning true", name):
            raise Missing(f"there is no node “{name[:40]}”")
        return (await _publish(connection, viewer.author, name, "removed", None))[1]


async def _use(connection: Any, token: str) -> str:
    """Spend a join token; returns who made it. Raises Invalid."""
    author = await connection.fetchval(
        f"update join_tokens set used_at = now() where {_HOLDS} returning created_by", _hash(token)
    )
    if author is None:
        raise _not_a_token()
    return str(author)


def _not_a_token() -> Invalid:
    return Invalid("token", "wrong, used already, or too old; make a new one with `mxctl node token`")


async def _publish(connection: Any, author: str, name: str, act: str, member: Member | None) -> tuple[int, int]:
    value = canonical(member) if member else None
    generation, revision = await layers.next_revision(connection)
    await connection.execute(
        "insert into history (revision, scope, name, author, door, act, after, hash)"
        " values ($1, 'node', $2, $3, 'system', $4, $5::text::jsonb, $6)",
        revision,
        name,
        author,
        act,
        value.decode() if value else None,
        digest(value) if value else "",
    )
    await layers.publish(connection, revision, keys.member(name), value)
    return generation, revision


def _member(joining: Joining, state: State) -> Member:
    return Member(joining.name, *joining.place, state)


def _node(row: Any) -> Node:
    return Node(**{**dict(row), "scrape": msgspec.json.decode(row["scrape"])})


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
