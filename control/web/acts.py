"""Acts on one mail in the panel: delete, block, restore, hold, undo; the bin."""

from typing import Any
from urllib.parse import urlencode, urlsplit

from quart import Blueprint, ResponseReturnValue, abort, redirect, request

from control.quarantine import acts, bin, holds
from control.quarantine.senders import Breadth
from control.store.errors import Forbidden, Invalid, TooLate
from control.web import paging, shell, toast
from control.web.quarantine import by_day

BIN = "/quarantine/bin"
ROWS = 50

blueprint = Blueprint("acts", __name__)


@blueprint.post("/quarantine/<item_id>/<any(delete, block, restore, hold, unhold):what>")
@shell.signed_in
async def act(item_id: str, what: str) -> ResponseReturnValue:
    """Do it and go back, with a line that takes it back; a second click does nothing more."""
    form = await request.form
    back = local(form.get("back", ""), "/quarantine" if what in ("delete", "block") else f"/quarantine/{item_id}")
    try:
        done = await _do(item_id, what, "domain" if form.get("what") == "domain" else "sender")
    except (Forbidden, Invalid) as error:
        return redirect(said(f"/quarantine/{item_id}", error.reason if isinstance(error, Invalid) else str(error)), 303)
    return redirect(told(back, f"a:{done}") if done else back, 303)


@blueprint.post("/quarantine/acts/<act_id>/undo")
@shell.signed_in
async def undo(act_id: str) -> ResponseReturnValue:
    """Take an act back; one that is over says so on the mail's page."""
    form = await request.form
    try:
        done = await acts.undo(shell.pool(), shell.viewer(), act_id)
    except TooLate as error:
        found = await acts.act(shell.pool(), shell.viewer(), act_id)
        return redirect(said(f"/quarantine/{found.item}", str(error)), 303)
    return redirect(told(local(form.get("back", ""), f"/quarantine/{done.item}"), f"a:{done.id}"), 303)


@blueprint.get(BIN)
@shell.signed_in
async def binned() -> ResponseReturnValue:
    """Deleted mail that can still be restored."""
    cursor, trail = request.args.get("cursor", ""), request.args.get("trail", "")
    try:
        page = await bin.listing(shell.pool(), shell.viewer(), cursor=cursor, limit=ROWS)
    except ValueError:
        abort(400)
    newer, older = paging.links(BIN, {}, cursor, trail, page.next)
    context: dict[str, Any] = {"days": by_day(page.items), "newer": newer, "older": older}
    context["toast"] = await toast.of(request.args.get("did", ""))
    return await shell.page("bin.html", nav="quarantine", kept_days=bin.KEPT_FOR.days, **context)


def local(address: str, otherwise: str) -> str:
    """An address of ours to go back to, without what was told there before; never another site's."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or not parts.path.startswith("/") or parts.path.startswith("//") or "\\" in address:
        return otherwise
    query = "&".join(each for each in parts.query.split("&") if each and not each.startswith(("did=", "said=")))
    return f"{parts.path}?{query}" if query else parts.path


def told(address: str, did: str) -> str:
    """The address with what was done."""
    return f"{address}{'&' if '?' in address else '?'}{urlencode({'did': did})}"


def said(address: str, words: str) -> str:
    """The address with why nothing was done."""
    return f"{address}{'&' if '?' in address else '?'}{urlencode({'said': words[:300]})}"


async def _do(item_id: str, what: str, breadth: Breadth) -> str:
    pool, viewer = shell.pool(), shell.viewer()
    if what == "delete":
        return await acts.delete(pool, viewer, item_id)
    if what == "block":
        return await acts.block(pool, viewer, item_id, breadth)
    if what == "restore":
        await acts.restore(pool, viewer, item_id)
        return ""
    await holds.set_item(pool, viewer, item_id, what == "hold")
    return ""
