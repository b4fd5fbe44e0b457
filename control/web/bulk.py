"""Acts on many mails in the panel: begun from the list, asked about once, followed with a bar, cancelled, undone."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from quart import Blueprint, ResponseReturnValue, abort, redirect, request

from control.quarantine import bulk, export, release
from control.quarantine.bulk import Bulk
from control.store.errors import Invalid, Missing, TooLate
from control.web import acts, asked, shell
from control.web.quarantine import PATH, query_of

TITLES = {"release": "Deliver", "delete": "Delete", "restore": "Restore", "export": "Export"}
STATES = {
    "listing": "Finding the mails",
    "running": "Under way",
    "done": "Done",
    "cancelled": "Cancelled",
    "undoing": "Being undone",
    "undone": "Undone",
    "failed": "The search could not be read",
}
PARTS_SHOWN = 200
MEDIA_TYPES = {"mbox": "application/mbox", "csv": "text/csv; charset=utf-8", "zip": "application/zip"}

blueprint = Blueprint("bulk", __name__)


@dataclass(frozen=True, slots=True)
class Line:
    """What `_bulk_line.html` shows; `ended` of `total` mails, `percent` of them."""

    id: str
    open: bool
    state: str
    title: str
    total: int
    ended: int
    percent: int
    counts: list[tuple[str, int]]


@blueprint.post("/quarantine/act")
@shell.signed_in
async def begin() -> ResponseReturnValue:
    """Begin an act on the ticked mails, or ask once before it is done to all that the search finds."""
    form = await request.form
    what = form.get("act", "")
    if what not in TITLES:
        abort(400)
    back = acts.local(form.get("back", ""), PATH)
    typed = asked.read(form)
    chosen = tuple(form.getlist("item"))
    try:
        if form.get("all") != "1":
            return await _chosen(what, chosen, back)
        if form.get("sure") != "1":
            return await _sure(what, typed, back)
        made = await _begin(what, hold_s=release.HELD_S, query=query_of(typed))
    except (ValueError, Invalid, Missing) as error:
        return redirect(acts.said(back, str(error)), 303)
    return redirect(f"/quarantine/actions/{made}", 303)


@blueprint.get("/quarantine/actions")
@shell.signed_in
async def listing() -> ResponseReturnValue:
    """The newest acts on many mails."""
    pool, viewer = shell.pool(), shell.viewer()
    found = [await bulk.get(pool, viewer, each) for each in await bulk.latest(pool, viewer)]
    rows = [(each, line(each), TITLES[each.act]) for each in found]
    return await shell.page("bulks.html", nav="quarantine", rows=rows)


@blueprint.get("/quarantine/actions/<bulk_id>")
@shell.signed_in
async def progress(bulk_id: str) -> ResponseReturnValue:
    """One of them: how far it is, what failed and why; an export's downloads."""
    found = await bulk.get(shell.pool(), shell.viewer(), bulk_id)
    parts = export.Export(found.id, found.total).parts
    context: dict[str, Any] = {"act": found, "line": line(found), "title": TITLES[found.act]}
    context |= {"parts": range(1, min(parts, PARTS_SHOWN) + 1), "said": request.args.get("said", "")}
    context["may_undo"] = found.state in ("listing", "running", "done", "cancelled") and (
        found.act in ("delete", "restore") or (found.act == "release" and found.is_open)
    )
    return await shell.page("bulk.html", nav="quarantine", **context)


@blueprint.post("/quarantine/actions/<bulk_id>/<any(cancel, resume, undo):what>")
@shell.signed_in
async def change(bulk_id: str, what: str) -> ResponseReturnValue:
    """Cancel, resume or undo it."""
    form = await request.form
    do = {"cancel": bulk.cancel, "resume": bulk.resume, "undo": bulk.undo}[what]
    here = acts.local(form.get("back", ""), f"/quarantine/actions/{bulk_id}")
    try:
        await do(shell.pool(), shell.viewer(), bulk_id)
    except TooLate as error:
        return redirect(acts.said(f"/quarantine/actions/{bulk_id}", str(error)), 303)
    return redirect(here, 303)


@blueprint.get("/quarantine/exports/<export_id>/<any(mbox, csv, zip):form>")
@shell.signed_in
async def download(export_id: str, form: str) -> ResponseReturnValue:
    """An export as a file, given out as it is read."""
    pool, viewer, packs = shell.pool(), shell.viewer(), shell.services().packs
    try:
        found = await export.opened(pool, viewer, export_id, form)
    except TooLate as error:
        return redirect(acts.said(f"/quarantine/actions/{export_id}", str(error)), 303)
    number = request.args.get("part" if form == "zip" else "after", "1" if form == "zip" else "0")
    at = int(number) if number.isascii() and number.isdigit() and len(number) < 9 else 0
    if form == "zip" and not 0 < at <= found.parts:
        abort(404)
    body: AsyncIterator[bytes]
    if form == "mbox":
        body = export.mbox(pool, packs, viewer, found, at)
    elif form == "csv":
        body = export.table(pool, viewer, found, at)
    else:
        body = export.archive(pool, packs, viewer, found, at)
    answer = await shell.answered(body)
    answer.headers["Content-Type"] = MEDIA_TYPES[form]
    answer.headers["Content-Disposition"] = (
        f'attachment; filename="{found.id}{f"-{at}" if form == "zip" else ""}.{form}"'
    )
    answer.timeout = None
    return answer


def line(found: Bulk) -> Line:
    """An act on many mails as one line with a bar. Pure."""
    open_ones = found.counts.get("waiting", 0) + found.counts.get("queued", 0)
    if found.state == "undoing":
        open_ones = found.counts.get("done", 0)
    ended = found.total - open_ones
    percent = 100 if not found.is_open else 0 if not found.listed or not found.total else 100 * ended // found.total
    names = ("done", "same", "failed", "cancelled", "undone")
    counts = [(name, found.counts[name]) for name in names if found.counts.get(name)]
    return Line(found.id, found.is_open, found.state, STATES[found.state], found.total, ended, percent, counts)


async def _sure(what: Any, typed: asked.Asked, back: str) -> ResponseReturnValue:
    query = bulk.meant(query_of(typed), what, datetime.now(UTC))
    count = await bulk.preview(shell.pool(), shell.viewer(), query)
    context: dict[str, Any] = {"count": count, "asked": typed, "what": what, "title": TITLES[what], "back": back}
    return await shell.page("sure.html", nav="quarantine", **context)


async def _chosen(what: str, chosen: tuple[str, ...], back: str) -> ResponseReturnValue:
    if not chosen:
        return redirect(acts.said(back, "no mail is ticked"), 303)
    made = await _begin(what, hold_s=release.HELD_S if what == "release" else 0.0, chosen=chosen)
    if what == "export":
        return redirect(f"/quarantine/actions/{made}", 303)
    return redirect(acts.told(back, f"b:{made}"), 303)


async def _begin(what: Any, **how: Any) -> str:
    if what == "export":
        how["hold_s"] = 0.0
    return await bulk.begin(shell.pool(), shell.viewer(), what, **how)
