"""`/messages`: what became of every mail, delivered ones included, on whichever node it came in."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from control.api.operation import Answer, Asked, operation
from control.api.problems import refused
from control.api.quarantine import Text, Time, moment
from control.quarantine import later, tracking
from syncd.spool.record import Judgement


class Search(msgspec.Struct, frozen=True):
    """What to look for; everything that is given has to fit."""

    domain: Text = ""
    q: Annotated[
        str, Meta(max_length=500, description="Pieces of the subject, the addresses or the Message-ID; or an id.")
    ] = ""
    sender: Text = ""
    recipient: Text = ""
    outcome: Annotated[
        str, Meta(max_length=20, description="delivered, kept, later, refused, deferred, abandoned.")
    ] = ""
    since: Time = ""
    until: Time = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: Annotated[str, Meta(max_length=1000, description="`next` of the page before.")] = ""


class Row(msgspec.Struct, frozen=True):
    """One recipient of one transaction."""

    id: str
    received_at: datetime
    sender: str
    recipient: str
    subject: str
    outcome: str
    reason: str
    node: str


class Page(msgspec.Struct, frozen=True):
    """Recipients of transactions, newest first."""

    items: list[Row]
    next: str | None


class Outcome(msgspec.Struct, frozen=True):
    """What became of one recipient: the sentence for its owner, what the sender was told, and every verdict."""

    recipient: str
    outcome: str
    reason: str = ""
    text: str = ""
    reply: str = ""
    score: float = 0.0
    next_hop: str = ""
    revision: int = 0
    judgements: tuple[Judgement, ...] = msgspec.field(default=(), name="verdicts")


class Message(msgspec.Struct, frozen=True):
    """One transaction, with those of its recipients that are yours."""

    id: str
    received_at: datetime
    node: str
    sender: str
    subject: str
    recipients: tuple[Outcome, ...]
    client_ip: str = ""
    helo: str = ""
    tls: str = ""
    message_id: str = ""
    size: int = 0


class Pushed(msgspec.Struct, frozen=True):
    """How many of its recipients' mails were waiting."""

    pushed: int


@operation("GET", "/messages", summary="What became of mail", answers={200: Page}, query=Search)
async def search_messages(asked: Asked) -> Answer:
    """Newest first, a row a recipient."""
    wanted: Search = asked.query
    query = tracking.Query(
        domain=wanted.domain or None,
        q=wanted.q or None,
        sender=wanted.sender or None,
        recipient=wanted.recipient or None,
        outcome=wanted.outcome or None,
        since=moment(wanted.since, "since"),
        until=moment(wanted.until, "until"),
        limit=wanted.limit,
        cursor=wanted.cursor or None,
    )
    try:
        page = await tracking.search(asked.pool, asked.viewer, query)
    except ValueError as error:
        raise refused(422, str(error), reason=str(error)) from error
    return Answer(Page([_shown(each, Row) for each in page.items], page.next))


@operation("GET", "/messages/{message}", summary="What became of one mail", answers={200: Message})
async def get_message(asked: Asked) -> Answer:
    """By the id in our reply or in the Received field."""
    found = await tracking.find(asked.pool, asked.viewer, asked.path["message"])
    if found is None:
        raise refused(404, "there is no such mail")
    return Answer(_shown(found, Message))


@operation("POST", "/messages/{message}/retry", summary="Try its waiting mail now", answers={202: Pushed})
async def retry_message(asked: Asked) -> Answer:
    """Mail that was kept for a server that was down is tried at once instead of in its time."""
    pushed = await later.push(asked.pool, asked.viewer, asked.path["message"])
    if not pushed and await tracking.find(asked.pool, asked.viewer, asked.path["message"]) is None:
        raise refused(404, "there is no such mail")
    return Answer(Pushed(pushed), 202)


def _shown(found: Any, kind: type[Any]) -> Any:
    """What tracking found, as the API shows it."""
    return msgspec.convert(found, kind, from_attributes=True)
