"""`…/lists`: allow and deny entries of a domain, an account and the system."""

from datetime import datetime
from functools import partial
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from control.api import applied
from control.api.applied import CHANGED, Applied, Wait
from control.api.fields import Paged
from control.api.operation import Answer, Asked, operation
from control.api.places import PLACES, Find, Place
from control.store import layers, lists

Kind = Literal["allow", "deny"]


class Entry(msgspec.Struct, frozen=True):
    """An entry: mail of these senders is let through, or refused."""

    id: str
    kind: Kind
    match: str
    expires: datetime | None
    authenticated_only: bool
    note: str
    created_at: datetime


class Entries(msgspec.Struct, frozen=True):
    """A page of entries in the order they were made."""

    items: list[Entry]
    next: str | None


class NewEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry to make."""

    kind: Kind
    match: Annotated[
        str,
        Meta(
            min_length=1, max_length=400, description="An address, a domain with its subdomains, or a network (CIDR)."
        ),
    ]
    expires: Annotated[datetime | None, Meta(description="When it ends, with a time zone (RFC 3339); null: never.")] = (
        None
    )
    authenticated_only: Annotated[bool, Meta(description="Only for mail that passed authentication (SPF, DKIM).")] = (
        False
    )
    note: Annotated[str, Meta(max_length=lists.LONGEST_NOTE)] = ""


class EntryMade(Applied, frozen=True):
    """The entry's id and spelling, with the revision that made it."""

    id: str = ""
    kind: Kind = "allow"
    match: str = ""


async def listing(find: Find, asked: Asked) -> Answer:
    """Entries in the order they were made."""
    scope, name = await find(asked)
    limit = asked.query.limit
    found = await lists.listing(asked.pool, asked.viewer, scope, name, after=asked.query.cursor, limit=limit + 1)
    page = found[:limit]
    return Answer(Entries([_shown(each) for each in page], page[-1].id if len(found) > len(page) else None))


async def add(find: Find, asked: Asked) -> Answer:
    """409 when the sender has an entry already."""
    scope, name = await find(asked)
    wanted: NewEntry = asked.body
    entry = lists.Wanted(wanted.kind, wanted.match, wanted.expires, wanted.authenticated_only, wanted.note)
    entry_id, written = await lists.add(asked.pool, asked.viewer, scope, name, entry)
    async with asked.pool.acquire() as connection:
        layer = await layers.load(connection, asked.viewer, scope, name)
    spelled = entry.checked().match
    return await applied.answer(asked, layer, written, status=201, id=entry_id, kind=wanted.kind, match=spelled)


async def get(find: Find, asked: Asked) -> Answer:
    """One entry."""
    scope, name = await find(asked)
    return Answer(_shown(await lists.get(asked.pool, asked.viewer, scope, name, asked.path["entry"])))


async def remove(find: Find, asked: Asked) -> Answer:
    """Gone at once on every node that has the revision."""
    scope, name = await find(asked)
    written = await lists.remove(asked.pool, asked.viewer, scope, name, asked.path["entry"])
    async with asked.pool.acquire() as connection:
        layer = await layers.load(connection, asked.viewer, scope, name)
    return await applied.answer(asked, layer, written)


def _shown(entry: lists.Listed) -> Entry:
    return Entry(
        entry.id, entry.kind, entry.match, entry.expires, entry.authenticated_only, entry.note, entry.created_at
    )


def _declare(place: Place) -> None:
    """The operations on the entries of one kind of layer."""
    path, word, audience = f"{place.path}/lists", place.word.replace("_", " "), place.audience
    operation(
        "GET",
        path,
        summary=f"Allow and deny entries of the {word}",
        answers={200: Entries},
        query=Paged,
        audience=audience,
        name=f"list_{place.word}_entries",
    )(partial(listing, place.find))
    operation(
        "POST",
        path,
        summary=f"Add an entry to the {word}",
        answers={201: EntryMade},
        query=Wait,
        body=NewEntry,
        audience=audience,
        name=f"create_{place.word}_entry",
    )(partial(add, place.find))
    operation(
        "GET",
        f"{path}/{{entry}}",
        summary=f"One entry of the {word}",
        answers={200: Entry},
        audience=audience,
        name=f"get_{place.word}_entry",
    )(partial(get, place.find))
    operation(
        "DELETE",
        f"{path}/{{entry}}",
        summary=f"Remove an entry of the {word}",
        answers=CHANGED,
        query=Wait,
        audience=audience,
        name=f"delete_{place.word}_entry",
    )(partial(remove, place.find))


for _place in PLACES:
    _declare(_place)
