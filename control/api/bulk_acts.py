"""`/quarantine/actions`, `/quarantine/exports`: one act over all that a search finds, or over chosen mail."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from control.api.operation import Answer, Asked, operation
from control.api.problems import refused
from control.api.quarantine import Text, Time, moment
from control.quarantine import bulk, export, search
from control.quarantine.bulk import Bulk

Item = Annotated[str, Meta(max_length=40)]
Hold = Annotated[float, Meta(ge=0, le=60, description="Seconds in which it can be undone before it begins.")]


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The search, as of `GET /quarantine`; what comes later is not meant."""

    domain: Text = ""
    q: Text = ""
    sender: Text = ""
    recipient: Text = ""
    reason: Text = ""
    since: Time = ""
    until: Time = ""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to do it. `train`: it is no spam (release)."""

    train: bool = False


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do with which mail: a `query`, or `items`. With `dry_run` it is only counted."""

    act: Literal["release", "delete", "restore"]
    query: Query | None = None
    items: Annotated[list[Item], Meta(max_length=bulk.MOST_CHOSEN)] = []
    options: Options = Options()
    dry_run: bool = False
    hold_s: Hold = 0.0


class WantedExport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which mail to export: a `query`, or `items`."""

    query: Query | None = None
    items: Annotated[list[Item], Meta(max_length=bulk.MOST_CHOSEN)] = []


class Count(msgspec.Struct, frozen=True):
    """How many mails are meant; not `exact`: more than `count`."""

    count: int
    exact: bool


class Failure(msgspec.Struct, frozen=True):
    """A mail with which it could not be done, and why."""

    item: str
    reason: str


class Progress(msgspec.Struct, frozen=True):
    """How far it is. `state`: listing (the mails are written down), running, done, cancelled, undoing, undone, failed.

    Mails by outcome: `same` were so already. `failures` are the first hundred.
    """

    id: str
    act: str
    state: str
    error: str
    total: int
    waiting: int
    done: int
    same: int
    failed: int
    cancelled: int
    undone: int
    created_at: datetime
    failures: list[Failure]


class Acts(msgspec.Struct, frozen=True):
    """The newest twenty."""

    items: list[Progress]


class After(msgspec.Struct, frozen=True):
    """Where to go on: behind the mail of this number."""

    after: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class Part(msgspec.Struct, frozen=True):
    """Which zip, from 1."""

    part: Annotated[int, Meta(ge=1, le=2**20)] = 1


@operation(
    "POST",
    "/quarantine/actions",
    summary="Act on all that a search finds",
    answers={200: Count, 202: Progress},
    body=Wanted,
)
async def act_in_bulk(asked: Asked) -> Answer:
    """Carried out in the background, each mail once; it goes on after a crash. Follow the answer's `id`."""
    wanted: Wanted = asked.body
    if wanted.dry_run:
        return Answer(await _count(asked, wanted))
    options = msgspec.to_builtins(wanted.options)
    made = await _begin(asked, wanted.act, wanted, options, wanted.hold_s)
    return Answer(_progress(made), 202, {"Location": f"/api/v1/quarantine/actions/{made.id}"})


@operation("GET", "/quarantine/actions", summary="Acts over searches", answers={200: Acts})
async def list_bulk_acts(asked: Asked) -> Answer:
    """Newest first, exports too."""
    ids = await bulk.latest(asked.pool, asked.viewer)
    return Answer(Acts([_progress(await bulk.get(asked.pool, asked.viewer, each)) for each in ids]))


@operation("GET", "/quarantine/actions/{bulk}", summary="How far it is", answers={200: Progress})
async def read_bulk_act(asked: Asked) -> Answer:
    """Of an export too."""
    return Answer(_progress(await bulk.get(asked.pool, asked.viewer, asked.path["bulk"])))


@operation("POST", "/quarantine/actions/{bulk}/cancel", summary="Do no more of it", answers={200: Progress})
async def cancel_bulk_act(asked: Asked) -> Answer:
    """What is done stays done; deliveries under way end."""
    await bulk.cancel(asked.pool, asked.viewer, asked.path["bulk"])
    return await read_bulk_act(asked)


@operation("POST", "/quarantine/actions/{bulk}/resume", summary="Go on with it", answers={200: Progress})
async def resume_bulk_act(asked: Asked) -> Answer:
    """With one that was cancelled; another one that has ended is a 409."""
    await bulk.resume(asked.pool, asked.viewer, asked.path["bulk"])
    return await read_bulk_act(asked)


@operation("POST", "/quarantine/actions/{bulk}/undo", summary="Undo it", answers={200: Progress})
async def undo_bulk_act(asked: Asked) -> Answer:
    """What it deleted is restored, and the other way round; deliveries that have not begun are cancelled."""
    await bulk.undo(asked.pool, asked.viewer, asked.path["bulk"])
    return await read_bulk_act(asked)


@operation("POST", "/quarantine/exports", summary="Export mail", answers={202: Progress}, body=WantedExport)
async def begin_export(asked: Asked) -> Answer:
    """First its mails are written down; when it is *done*, download it in any of the three forms."""
    made = await _begin(asked, "export", asked.body, {}, 0.0)
    return Answer(_progress(made), 202, {"Location": f"/api/v1/quarantine/actions/{made.id}"})


@operation(
    "GET",
    "/quarantine/exports/{export}/mbox",
    summary="All mails as an mbox",
    answers={200: "application/mbox"},
    query=After,
)
async def export_mbox(asked: Asked) -> Answer:
    """Each begins with `X-Mxfleet-Export: <export> <number> <item>`. After a cut: remove what is not whole at the end,
    and ask for what is `after` the last number."""
    found = await export.opened(asked.pool, asked.viewer, asked.path["export"], "mbox")
    body = export.mbox(asked.pool, asked.services.packs, asked.viewer, found, asked.query.after)
    return _file(body, f"{found.id}.mbox")


@operation(
    "GET",
    "/quarantine/exports/{export}/csv",
    summary="Its table",
    answers={200: "text/csv; charset=utf-8"},
    query=After,
)
async def export_table(asked: Asked) -> Answer:
    """Everything but the bodies; goes on `after` a number, then without the line of names."""
    found = await export.opened(asked.pool, asked.viewer, asked.path["export"], "csv")
    return _file(export.table(asked.pool, asked.viewer, found, asked.query.after), f"{found.id}.csv")


@operation(
    "GET",
    "/quarantine/exports/{export}/zip",
    summary="500 mails as a zip",
    answers={200: "application/zip"},
    query=Part,
)
async def export_archive(asked: Asked) -> Answer:
    """The exact bytes as .eml files, and a table of them. `X-Parts` says how many parts there are; 404 behind them."""
    found = await export.opened(asked.pool, asked.viewer, asked.path["export"], "zip")
    if asked.query.part > found.parts:
        raise refused(404, f"there are {found.parts} parts")
    body = export.archive(asked.pool, asked.services.packs, asked.viewer, found, asked.query.part)
    return _file(body, f"{found.id}-{asked.query.part}.zip", X_Parts=str(found.parts))


def _file(body: AsyncIterator[bytes], name: str, **headers: str) -> Answer:
    named = {field.replace("_", "-"): value for field, value in headers.items()}
    return Answer(body, headers={"Content-Disposition": f'attachment; filename="{name}"', **named})


async def _count(asked: Asked, wanted: Wanted) -> Count:
    if wanted.query is None:
        return Count(len(set(wanted.items)), True)
    query = bulk.meant(_query(wanted.query), wanted.act, datetime.now().astimezone())
    try:
        found = await bulk.preview(asked.pool, asked.viewer, query)
    except ValueError as error:
        raise refused(422, str(error), field="query", reason=str(error)) from error
    return Count(found.count, found.exact)


async def _begin(asked: Asked, act: bulk.Act, wanted: Any, options: dict[str, Any], hold_s: float) -> Bulk:
    query = _query(wanted.query) if wanted.query else None
    try:
        made = await bulk.begin(
            asked.pool, asked.viewer, act, query=query, chosen=wanted.items, options=options, hold_s=hold_s
        )
    except ValueError as error:
        raise refused(422, str(error), field="query", reason=str(error)) from error
    return await bulk.get(asked.pool, asked.viewer, made)


def _query(typed: Query) -> search.Query:
    return search.Query(
        domain=typed.domain or None,
        q=typed.q or None,
        sender=typed.sender or None,
        recipient=typed.recipient or None,
        reason=typed.reason or None,
        since=moment(typed.since, "query.since"),
        until=moment(typed.until, "query.until"),
    )


def _progress(found: Bulk) -> Progress:
    shown: dict[str, Any] = {name: getattr(found, name) for name in ("id", "act", "state", "error", "total")}
    shown |= {name: found.counts.get(name, 0) for name in ("done", "same", "failed", "cancelled", "undone")}
    return Progress(
        **shown,
        waiting=found.counts.get("waiting", 0) + found.counts.get("queued", 0),
        created_at=found.created_at,
        failures=[Failure(each.item, each.reason) for each in found.failures],
    )
