"""`/domains/{domain}/recipients`: any local part, or only those listed, each with settings of its own."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from control.api import applied
from control.api.applied import CHANGED, Wait
from control.api.operation import Answer, Asked, operation
from control.api.places import domain
from control.store import layers, recipients
from control.store.errors import Invalid
from control.store.layers import Settings

PAGE = 1000


class Recipient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A listed recipient: the part before the @ (or the whole address), and what it sets for itself."""

    recipient: Annotated[str, Meta(min_length=1, max_length=320)]
    settings: dict[str, dict[str, Any]] = {}


Given = Annotated[str, Meta(min_length=1, max_length=320)] | Recipient
Many = Annotated[list[Given], Meta(max_length=recipients.MOST_RECIPIENTS)]


class Page(msgspec.Struct, frozen=True):
    """A page of listed recipients."""

    limit: Annotated[int, Meta(ge=1, le=recipients.LONGEST_PAGE, description="Items on a page.")] = PAGE
    cursor: Annotated[str, Meta(max_length=320, description="`next` of the page before.")] = ""


class Recipients(msgspec.Struct, frozen=True):
    """The recipients; `listed` false: any local part is taken."""

    listed: bool
    count: int
    items: list[Recipient]
    next: str | None
    revision: int
    hash: str


class All(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole list; null: any local part is taken."""

    recipients: Many | None


class Some(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Recipients to add (or replace) and to remove."""

    add: Many = []
    remove: Annotated[list[Annotated[str, Meta(max_length=320)]], Meta(max_length=recipients.MOST_RECIPIENTS)] = []


@operation(
    "GET", "/domains/{domain}/recipients", summary="Recipients of a domain", answers={200: Recipients}, query=Page
)
async def list_recipients(asked: Asked) -> Answer:
    """By local part."""
    found = await recipients.listing(
        asked.pool, asked.viewer, domain(asked), after=asked.query.cursor, limit=asked.query.limit
    )
    items = [Recipient(local_part, dict(own)) for local_part, own in found.page]  # type: ignore[arg-type]
    more = len(items) == asked.query.limit
    after = items[-1].recipient if more else None
    return Answer(Recipients(found.listed, found.count, items, after, found.revision, found.hash))


@operation(
    "PUT",
    "/domains/{domain}/recipients",
    summary="Take mail for exactly these, or for any",
    answers=CHANGED,
    query=Wait,
    body=All,
)
async def set_recipients(asked: Asked) -> Answer:
    """A list of them, or null for any local part."""
    name, given = domain(asked), asked.body.recipients
    wanted = None if given is None else _spelled(name, given)
    return await _changed(asked, name, await recipients.set_all(asked.pool, asked.viewer, name, wanted))


@operation(
    "PATCH",
    "/domains/{domain}/recipients",
    summary="Add and remove some recipients",
    answers=CHANGED,
    query=Wait,
    body=Some,
)
async def amend_recipients(asked: Asked) -> Answer:
    """Only listed recipients exist from then on."""
    name = domain(asked)
    gone = [recipients.spelled(name, each, "remove") for each in asked.body.remove]
    added = _spelled(name, asked.body.add)
    return await _changed(asked, name, await recipients.amend(asked.pool, asked.viewer, name, added, gone))


def _spelled(name: str, given: list[str | Recipient]) -> Mapping[str, Settings]:
    """By local part. Raises Invalid for one that is named twice."""
    found: dict[str, Settings] = {}
    for each in given:
        typed, own = (each, {}) if isinstance(each, str) else (each.recipient, each.settings)
        local_part = recipients.spelled(name, typed)
        if local_part in found:
            raise Invalid("recipients", f"“{local_part}” is named twice")
        found[local_part] = own
    return found


async def _changed(asked: Asked, name: str, written: layers.Written) -> Answer:
    async with asked.pool.acquire() as connection:
        layer = await layers.load(connection, asked.viewer, "domain", name)
    return await applied.answer(asked, layer, written)
