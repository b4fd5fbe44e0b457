"""`/quarantine` and `/jobs`: refused and held mail, found, read, delivered."""

from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from control.api.operation import Answer, Asked, operation
from control.api.problems import refused
from control.quarantine import acts, counts, grammar, items, release, search, viewing
from control.quarantine.items import Kept
from control.quarantine.packs import BodyAway, BodyLost
from syncd.spool.record import Judgement

SAFE_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""For mail shown by a browser that came here by itself: no script, no network, an origin of its own."""

WORDS = (
    "Words of the mail, or an id; beg* for a beginning, quotes for a phrase, - for not; fields as `from:ann`, all of"
    " which /quarantine/fields lists."
)
T = TypeVar("T")
Text = Annotated[str, Meta(max_length=500)]
Time = Annotated[str, Meta(max_length=40, description="RFC 3339, or a day, in UTC where no zone is named.")]


class Search(msgspec.Struct, frozen=True):
    """What to look for; everything that is given has to fit."""

    domain: Text = ""
    q: Annotated[str, Meta(max_length=500, description=WORDS)] = ""
    sender: Text = ""
    recipient: Text = ""
    reason: Annotated[str, Meta(max_length=100, description="A filter's name, score or next_hop.")] = ""
    since: Time = ""
    until: Time = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: Annotated[str, Meta(max_length=1000, description="`next` of the page before.")] = ""


class Item(msgspec.Struct, frozen=True):
    """One kept mail of one recipient."""

    id: str
    received_at: datetime
    sender: str
    recipient: str
    subject: str
    reason: str
    filter: str
    score: float
    node: str
    size: int
    status: str


class Lag(msgspec.Struct, frozen=True):
    """Mails whose bodies are not in the index yet, and the seconds that the first of them has waited."""

    mails: int
    seconds: float


class Page(msgspec.Struct, frozen=True):
    """Kept mail, newest first.

    `reached` is set when the time ran out: so far back was looked, and `next` goes on from there. `lag` is set when
    bodies were asked for.
    """

    items: list[Item]
    next: str | None
    reached: datetime | None = None
    lag: Lag | None = None


class Counts(msgspec.Struct, frozen=True):
    """Kept mail by reason.

    `kind` says what the numbers are: `exact`; `rolled_up`, all that was kept in these days, deleted mail included; or
    `newest`, of the newest 2,000 that fit. There are none when counting would take too long.
    """

    reasons: dict[str, int]
    kind: str


class Field(msgspec.Struct, frozen=True):
    """A field of the search: its name before the colon, what it finds, what it takes, an example, and its values."""

    name: str
    finds: str
    takes: str
    example: str
    values: tuple[str, ...] = ()


class Fields(msgspec.Struct, frozen=True):
    """Every field of the search."""

    items: list[Field]


class Detail(Item, frozen=True):
    """One kept mail with the sentence that says why, the settings' revision that judged it, and every verdict."""

    domain: str = ""
    reason_text: str = ""
    revision: int = 0
    client_ip: str = ""
    helo: str = ""
    tls: str = ""
    header_from: str = ""
    message_id: str = ""
    reply: str = ""
    attachments: tuple[str, ...] = ()
    verdicts: tuple[Judgement, ...] = ()


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to deliver it: `allow_sender` lets this sender's mail through from now on, `allow` "domain" its whole
    domain's; `train` says that it is no spam; `to` is another address of this account that gets it instead; it can
    be taken back for `hold_s` seconds before it begins.

    A mail that was delivered, or may have been, is delivered once more only if `again` names the job that did it.
    """

    allow_sender: bool = False
    allow: Literal["", "sender", "domain"] = ""
    train: bool = False
    to: Annotated[str, Meta(max_length=320)] = ""
    hold_s: Annotated[float, Meta(ge=0, le=release.LONGEST_HOLD_S)] = 0.0
    again: Annotated[str, Meta(max_length=40)] = ""


class Queued(msgspec.Struct, frozen=True):
    """The job that does it, and the act by which it is undone; asked again, the same, unless that failed."""

    job: str
    act: str = ""


class Job(msgspec.Struct, frozen=True):
    """How a job is: queued, running, done, failed, unknown (cut after the final dot), or cancelled (undone in time)."""

    state: str
    outcome: str


@operation("GET", "/quarantine", summary="Kept mail", answers={200: Page}, query=Search)
async def search_quarantine(asked: Asked) -> Answer:
    """Newest first."""
    found = await _searched(search.search(asked.pool, asked.viewer, _query(asked.query)))
    lag = Lag(found.lag.mails, found.lag.seconds) if found.lag else None
    return Answer(Page([_item(each) for each in found.items], found.next, found.reached, lag))


@operation("GET", "/quarantine/counts", summary="Kept mail by reason", answers={200: Counts}, query=Search)
async def count_quarantine(asked: Asked) -> Answer:
    """Of what the same search finds, whatever reason, page and limit it names."""
    found = await _searched(counts.reasons(asked.pool, asked.viewer, _query(asked.query)))
    return Answer(Counts(found.by_reason, found.kind.value))


@operation("GET", "/quarantine/fields", summary="The fields of the search", answers={200: Fields})
async def list_fields(asked: Asked) -> Answer:
    """What may stand in `q` besides words, for completion."""
    return Answer(
        Fields([Field(each.name, each.finds, each.wants, each.example, each.values) for each in grammar.FIELDS])
    )


@operation("GET", "/quarantine/{item}", summary="One kept mail with every verdict", answers={200: Detail})
async def get_item(asked: Asked) -> Answer:
    """Why it was kept, by whose settings at which revision, and what each filter said."""
    found = await _found(asked)
    await acts.viewed(asked.pool, asked.viewer, found.id)
    return Answer(_detail(found))


@operation("GET", "/quarantine/{item}/raw", summary="Its exact bytes", answers={200: "message/rfc822"})
async def get_raw(asked: Asked) -> Answer:
    """As received, without our trace fields."""
    name = "".join(each for each in asked.path["item"] if each.isalnum() or each in ".-")
    headers = {
        "Content-Disposition": f'attachment; filename="{name}.eml"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    body = await _raw(asked)
    await acts.viewed(asked.pool, asked.viewer, asked.path["item"], "download")
    return Answer(body, headers=headers)


@operation("GET", "/quarantine/{item}/html", summary="Its safe view", answers={200: "text/html; charset=utf-8"})
async def get_html(asked: Asked) -> Answer:
    """Sanitised, without remote content; to be framed with `sandbox`."""
    view = await viewing.safe(await _raw(asked))
    headers = {"Content-Security-Policy": SAFE_CSP, "X-Content-Type-Options": "nosniff"}
    return Answer(view.html.encode(), headers=headers)


@operation(
    "POST", "/quarantine/{item}/release", summary="Deliver it past the filters", answers={202: Queued}, body=Release
)
async def release_item(asked: Asked) -> Answer:
    """To its recipient alone; once, however often it is asked."""
    job = await release.request(asked.pool, asked.viewer, asked.path["item"], msgspec.structs.asdict(asked.body))
    made = await release.job(asked.pool, asked.viewer, job)
    return Answer(Queued(job, made.act_id if made else ""), 202, {"Location": f"/api/v1/jobs/{job}"})


@operation("GET", "/jobs/{job}", summary="How a job is", answers={200: Job})
async def get_job(asked: Asked) -> Answer:
    """A job that was cut after the final dot is `unknown`, and never repeated by itself."""
    job = await release.job(asked.pool, asked.viewer, asked.path["job"])
    if job is None:
        raise refused(404, "there is no such job")
    return Answer(Job(job.state, job.outcome))


async def _searched(work: Awaitable[T]) -> T:
    """What a search gives. Raises Refused for one that cannot be read, with its place, or that takes too long."""
    try:
        return await work
    except grammar.Wrong as error:
        problem = refused(422, f"q: {error}", field="q", reason=str(error))
        problem.problem.start, problem.problem.end = error.start, error.end
        raise problem from error
    except ValueError as error:
        raise refused(422, str(error), reason=str(error)) from error


def _query(wanted: Search) -> search.Query:
    return search.Query(
        domain=wanted.domain or None,
        q=wanted.q or None,
        sender=wanted.sender or None,
        recipient=wanted.recipient or None,
        reason=wanted.reason or None,
        since=moment(wanted.since, "since"),
        until=moment(wanted.until, "until"),
        limit=wanted.limit,
        cursor=wanted.cursor or None,
    )


def moment(text: str, field: str) -> datetime | None:
    """A time as typed, in UTC where it names no zone; None for none. Raises Refused."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        reason = "must be a time like 2026-11-24T10:00:00Z, or a day"
        raise refused(422, f"{field}: {reason}", field=field, reason=reason) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


async def _found(asked: Asked) -> Kept:
    found = await items.get(asked.pool, asked.viewer, asked.path["item"])
    if found is None:
        raise refused(404, "there is no such mail")
    return found


async def _raw(asked: Asked) -> bytes:
    try:
        body = await items.raw(asked.pool, asked.services.packs, asked.viewer, asked.path["item"])
    except BodyAway as error:
        raise refused(
            503, "the store of mail bodies does not answer; try again in a moment", Retry_After="5"
        ) from error
    except BodyLost as error:
        raise refused(410, "the body of this mail is lost; what is known of it is still here") from error
    if body is None:
        raise refused(404, "there is no such mail")
    return body


def _item(found: Any) -> Item:
    return msgspec.convert(found, Item, from_attributes=True)


def _detail(found: Kept) -> Detail:
    """The item with what its record says of this recipient; without a record, what the row has."""
    shown = {name: getattr(found, name) for name in (*Item.__struct_fields__, "domain", "reason_text", "revision")}
    record = found.record
    if record is None:
        return msgspec.convert(shown, Detail)
    for name in ("client_ip", "helo", "tls", "header_from", "message_id", "attachments"):
        shown[name] = getattr(record, name)
    result = next((each for each in record.recipients if each.address == found.recipient), None)
    judged = result.judgements if result else -1
    shown["reply"] = (result.reply if result else "") or record.reply
    shown["verdicts"] = record.judgements[judged] if judged >= 0 else ()
    return msgspec.convert(shown, Detail)
