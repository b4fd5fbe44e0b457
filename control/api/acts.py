"""`/quarantine/{item}/…`, `/quarantine/acts`, `/quarantine/bin`: what can be done with one kept mail, and undone."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from control.api.operation import Answer, Asked, operation
from control.api.problems import refused
from control.api.quarantine import Item, Page
from control.quarantine import acts, bin, holds, items


class Done(msgspec.Struct, frozen=True):
    """The act that did it, by which it is undone; asked again, the same one."""

    act: str


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose mail is refused from now on: the sender's, or all of its domain's."""

    what: Literal["sender", "domain"] = "sender"


class Held(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether it is on hold: neither deleted nor expired."""

    held: bool = True


class Event(msgspec.Struct, frozen=True):
    """Who did what, by which door."""

    at: datetime
    author: str
    door: str
    act: str
    detail: dict[str, Any]


class History(msgspec.Struct, frozen=True):
    """What happened with an item, newest first."""

    events: list[Event]


class Binned(msgspec.Struct, frozen=True):
    """Which page of the bin."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: Annotated[str, Meta(max_length=1000, description="`next` of the page before.")] = ""


@operation("POST", "/quarantine/{item}/delete", summary="Put it into the bin", answers={200: Done})
async def delete_item(asked: Asked) -> Answer:
    """It lies there for 7 days, from which it can be restored; then it goes."""
    return Answer(Done(await acts.delete(asked.pool, asked.viewer, asked.path["item"])))


@operation(
    "POST", "/quarantine/{item}/block", summary="Block the sender and delete it", answers={200: Done}, body=Block
)
async def block_item(asked: Asked) -> Answer:
    """The sender, or its whole domain, goes on the deny list of the recipient's domain."""
    return Answer(Done(await acts.block(asked.pool, asked.viewer, asked.path["item"], asked.body.what)))


@operation("POST", "/quarantine/{item}/restore", summary="Take it out of the bin", answers={204: None})
async def restore_item(asked: Asked) -> Answer:
    """Harmless for one that is not in it."""
    await acts.restore(asked.pool, asked.viewer, asked.path["item"])
    return Answer(None, 204)


@operation("PUT", "/quarantine/{item}/hold", summary="Put it on hold", answers={200: Held}, body=Held)
async def hold_item(asked: Asked) -> Answer:
    """What is on hold is neither deleted nor expired, whatever anybody sets."""
    await holds.set_item(asked.pool, asked.viewer, asked.path["item"], asked.body.held)
    return Answer(asked.body)


@operation("GET", "/quarantine/{item}/history", summary="Who did what with it", answers={200: History})
async def get_history(asked: Asked) -> Answer:
    """Who viewed, released, deleted it, by which door."""
    kept = await items.get(asked.pool, asked.viewer, asked.path["item"], binned=True)
    if kept is None:
        raise refused(404, "there is no such mail")
    found = await acts.history(asked.pool, kept)
    return Answer(History([msgspec.convert(each, Event, from_attributes=True) for each in found]))


@operation("POST", "/quarantine/acts/{act}/undo", summary="Undo an act", answers={204: None})
async def undo_act(asked: Asked) -> Answer:
    """With all that it did, list entries too. A release can be taken back until it begins, else this is a 409."""
    await acts.undo(asked.pool, asked.viewer, asked.path["act"])
    return Answer(None, 204)


@operation("GET", "/quarantine/bin", summary="Deleted mail", answers={200: Page}, query=Binned)
async def list_bin(asked: Asked) -> Answer:
    """What can still be restored, newest mail first."""
    try:
        page = await bin.listing(asked.pool, asked.viewer, cursor=asked.query.cursor, limit=asked.query.limit)
    except ValueError as error:
        raise refused(422, str(error), reason=str(error)) from error
    return Answer(Page([msgspec.convert(each, Item, from_attributes=True) for each in page.items], page.next))
