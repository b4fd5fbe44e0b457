"""Who changed what on a domain, when, by which door; and the way back."""

from dataclasses import dataclass
from datetime import datetime

from quart import Blueprint, Response, ResponseReturnValue, redirect, request

from control.store import history, settings
from control.store.errors import StoreError
from control.web import changes, live, shell

REVISIONS = 50

blueprint = Blueprint("history", __name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One revision as the page shows it."""

    revision: int
    at: datetime
    author: str
    door: str
    act: str
    changes: list[changes.Change]
    can_roll_back: bool


@blueprint.get("/domains/<domain>/history")
@shell.signed_in
async def listing(domain: str) -> ResponseReturnValue:
    """Revisions, newest first."""
    return await _page(domain, 200)


@blueprint.post("/domains/<domain>/rollback")
@shell.signed_in
async def rollback(domain: str) -> ResponseReturnValue:
    """Make the settings what they were, as a new revision, and show how it spreads."""
    revision = live.number((await request.form).get("revision", ""))
    await settings.read(shell.pool(), shell.viewer(), "domain", domain)
    try:
        written = await settings.rollback(shell.pool(), shell.viewer(), "domain", domain, revision)
    except StoreError as error:
        return await _page(domain, 422, str(error))
    if not written.changed:
        return await _page(domain, 200, f"The settings are the same as at revision {revision} already.")
    live.committed(written)
    return redirect(f"/domains/{domain}/settings?saved={written.revision}", 303)


async def _page(domain: str, code: int, error: str = "") -> Response:
    before = live.number(request.args.get("before", "")) or None
    found = await history.listing(shell.pool(), shell.viewer(), "domain", domain, before=before, limit=REVISIONS + 1)
    rows = [_row(each, newest=index == 0 and before is None) for index, each in enumerate(found[:REVISIONS])]
    older = f"/domains/{domain}/history?before={rows[-1].revision}" if len(found) > REVISIONS else ""
    context = {"nav": "domains", "domain": domain, "part": "history", "older": older, "first": before is None}
    return await shell.page("history.html", code, **context, error=error, revisions=rows)


def _row(each: history.Revision, *, newest: bool) -> Row:
    differences = changes.between(each.before, each.after)
    back = each.can_roll_back and not newest
    return Row(each.revision, each.at, each.author, each.door, each.act, differences, back)
