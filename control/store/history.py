"""What was changed, when, by whom, through which door: read from the history that every change writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from control.auth import Viewer
from control.store import layers
from control.store.documents import differences
from control.store.errors import Difference
from control.store.layers import Layer, Scope

DOCUMENT_ACTS = ("created", "settings", "rollback")
"""Acts whose history holds the whole settings document, before and after."""
LONGEST_PAGE = 200


@dataclass(frozen=True, slots=True)
class Revision:
    """One change of a layer; `before` and `after` hold only what the act changed."""

    revision: int
    at: datetime
    author: str
    door: str
    act: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    hash: str

    @property
    def diff(self) -> list[Difference]:
        """Every path that the act changed."""
        return differences(self.before, self.after)

    @property
    def can_roll_back(self) -> bool:
        """Whether it names a settings document that one can go back to."""
        return self.act in DOCUMENT_ACTS


async def listing(
    pool: Any, viewer: Viewer, scope: Scope, name: str, *, before: int | None = None, limit: int = 50
) -> Sequence[Revision]:
    """A layer's changes, newest first, those older than revision `before`. Raises Missing."""
    async with pool.acquire() as connection:
        layer = await layers.load(connection, viewer, scope, name)
        rows = await connection.fetch(
            "select revision, at, author, door, act, before::text, after::text, hash from history"
            " where scope = $1 and name = $2 and account_id = $3 and ($4::bigint is null or revision < $4)"
            " order by revision desc limit $5",
            scope,
            name,
            layer.account_id,
            before,
            max(1, min(limit, LONGEST_PAGE)),
        )
    return [
        Revision(
            **{field: row[field] for field in ("revision", "at", "author", "door", "act", "hash")},
            before=_document(row["before"]),
            after=_document(row["after"]),
        )
        for row in rows
    ]


async def document_at(connection: Any, layer: Layer, revision: int) -> dict[str, Any] | None:
    """The settings document of a layer as it was at a revision of its own; None when it had none then."""
    text = await connection.fetchval(
        "select after::text from history where scope = $1 and name = $2 and account_id = $3"
        " and revision <= $4 and act = any($5::text[])"
        " and exists (select from history"
        " where scope = $1 and name = $2 and account_id = $3 and revision = $4)"
        " order by revision desc limit 1",
        layer.scope,
        layer.name,
        layer.account_id,
        revision,
        list(DOCUMENT_ACTS),
    )
    return _document(text)


async def revision_of_hash(connection: Any, layer: Layer, layer_hash: str) -> int | None:
    """The newest revision at which a layer had this content hash."""
    found: int | None = await connection.fetchval(
        "select max(revision) from history where scope = $1 and name = $2 and account_id = $3 and hash = $4",
        layer.scope,
        layer.name,
        layer.account_id,
        layer_hash,
    )
    return found


async def hash_at(connection: Any, layer: Layer, revisions: Sequence[int]) -> dict[int, str]:
    """The content hash that a layer had at each of these revisions; those before its first are left out."""
    rows = await connection.fetch(
        "select at.revision, h.hash from unnest($4::bigint[]) at (revision) cross join lateral"
        " (select hash from history where scope = $1 and name = $2 and account_id = $3"
        " and history.revision <= at.revision order by history.revision desc limit 1) h",
        layer.scope,
        layer.name,
        layer.account_id,
        list(revisions),
    )
    return {row["revision"]: row["hash"] for row in rows}


async def last_author(connection: Any, layer: Layer) -> tuple[int, str]:
    """(revision, author) of the newest change of a layer's settings document."""
    row = await connection.fetchrow(
        "select revision, author from history where scope = $1 and name = $2 and account_id = $3"
        " and act = any($4::text[]) order by revision desc limit 1",
        layer.scope,
        layer.name,
        layer.account_id,
        list(DOCUMENT_ACTS),
    )
    return (row["revision"], row["author"]) if row else (layer.revision, "")


def _document(text: str | None) -> dict[str, Any] | None:
    return None if text is None else msgspec.json.decode(text, type=dict[str, Any])
