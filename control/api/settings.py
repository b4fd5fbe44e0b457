"""`…/settings` of a domain, an account and the system: read, patched, their history, rolled back."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from control.api import applied, schemas
from control.api.applied import CHANGED, Wait
from control.api.fields import Changed, Limit, Revision
from control.api.operation import Answer, Asked, operation
from control.api.places import PLACES, Find, Place
from control.store import history, layers, settings
from control.store.layers import Scope, Written


class HowRead(Wait, frozen=True):
    """What to show of the settings."""

    resolved: Annotated[
        bool, Meta(description="Show what is in force, inherited settings included, instead of what is set here.")
    ] = False


class HistoryPage(msgspec.Struct, frozen=True):
    """A page of a history."""

    limit: Limit = 50
    cursor: Annotated[str, Meta(pattern=r"^[0-9]{0,18}$", description="`next` of the page before.")] = ""


class OldRevision(msgspec.Struct, frozen=True):
    """One change: who made it, by which door, and what it changed."""

    revision: int
    at: datetime
    author: str
    door: str
    act: str
    hash: str
    diff: list[Changed]


class History(msgspec.Struct, frozen=True):
    """Changes, newest first."""

    items: list[OldRevision]
    next: str | None


class Back(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The revision whose settings are wanted again."""

    revision: Revision


async def read(find: Find, asked: Asked) -> Answer:
    """Section → field → value, beside them `revision` and `hash`; with `wait=applied` also `applied` and `nodes`.

    Without the wait the answer holds nothing that changes by itself.
    """
    scope, name = await find(asked)
    stand = await settings.read(asked.pool, asked.viewer, scope, name)
    document = stand.resolved if asked.query.resolved else stand.document
    if not asked.query.wait:
        body = {**document, "revision": stand.layer.revision, "hash": stand.layer.hash}
        return Answer(body, headers={"ETag": f'"{stand.layer.hash}"'})
    async with asked.pool.acquire() as connection:
        present = await layers.present(connection, stand.layer)
    return await applied.answer(asked, stand.layer, present, **document)


async def patch(find: Find, asked: Asked) -> Answer:
    """A JSON merge patch (RFC 7396): null removes, lists are replaced. `If-Match` takes a revision or a hash."""
    scope, name = await find(asked)
    written = await settings.patch(asked.pool, asked.viewer, scope, name, asked.body, base=asked.if_match)
    return await _changed(asked, scope, name, written)


async def past(find: Find, asked: Asked) -> Answer:
    """Who changed what, newest first."""
    scope, name = await find(asked)
    before, limit = asked.query.cursor, asked.query.limit
    found = await history.listing(
        asked.pool, asked.viewer, scope, name, before=int(before) if before else None, limit=limit + 1
    )
    page = found[:limit]
    return Answer(History([_shown(each) for each in page], str(page[-1].revision) if len(found) > len(page) else None))


async def rollback(find: Find, asked: Asked) -> Answer:
    """Settings as they were at a revision, as a new revision. Lists, recipients and next hops stay."""
    scope, name = await find(asked)
    written = await settings.rollback(asked.pool, asked.viewer, scope, name, asked.body.revision)
    return await _changed(asked, scope, name, written)


def _shown(made: history.Revision) -> OldRevision:
    diff = [Changed(each.path, each.before, each.after) for each in made.diff]
    return OldRevision(made.revision, made.at, made.author, made.door, made.act, made.hash, diff)


async def _changed(asked: Asked, scope: Scope, name: str, written: Written) -> Answer:
    async with asked.pool.acquire() as connection:
        layer = await layers.load(connection, asked.viewer, scope, name)
    return await applied.answer(asked, layer, written)


def _declare(place: Place) -> None:
    """The operations on the settings of one kind of layer."""
    path, word, audience = f"{place.path}/settings", place.word.replace("_", " "), place.audience
    documents = {200: schemas.DOCUMENT, 202: schemas.DOCUMENT}
    operation(
        "GET",
        path,
        summary=f"Settings of the {word}",
        answers=documents,
        query=HowRead,
        audience=audience,
        name=f"read_{place.word}_settings",
    )(partial(read, place.find))
    operation(
        "PATCH",
        path,
        summary=f"Change settings of the {word}",
        answers=CHANGED,
        query=Wait,
        body=dict[str, Any],
        body_schema=schemas.PATCH,
        audience=audience,
        name=f"change_{place.word}_settings",
    )(partial(patch, place.find))
    operation(
        "GET",
        f"{path}/history",
        summary=f"Changes of the {word}",
        answers={200: History},
        query=HistoryPage,
        audience=audience,
        name=f"read_{place.word}_history",
    )(partial(past, place.find))
    operation(
        "POST",
        f"{path}/rollback",
        summary=f"Settings of the {word} as they were",
        answers=CHANGED,
        query=Wait,
        body=Back,
        audience=audience,
        name=f"roll_back_{place.word}_settings",
    )(partial(rollback, place.find))


for _place in PLACES:
    _declare(_place)
