"""A domain's allow and deny entries."""

from datetime import UTC, datetime, timedelta
from typing import Any

from quart import Blueprint, Response, ResponseReturnValue, redirect, request

from control.store import domains, lists
from control.store.errors import Invalid, Missing, StoreError
from control.web import live, paging, shell

ROWS = 200

blueprint = Blueprint("entries", __name__)


@blueprint.get("/domains/<domain>/lists")
@shell.signed_in
async def listing(domain: str) -> ResponseReturnValue:
    """The entries, and how the last change spreads."""
    return await _page(domain, 200)


@blueprint.post("/domains/<domain>/lists")
@shell.signed_in
async def add(domain: str) -> ResponseReturnValue:
    """Make an entry; what is wrong is said above the form, which keeps what was typed."""
    typed = await request.form
    await domains.get(shell.pool(), shell.viewer(), domain)
    try:
        _, written = await lists.add(shell.pool(), shell.viewer(), "domain", domain, _wanted(typed))
    except StoreError as error:
        return await _page(domain, 422, str(error), typed)
    live.committed(written)
    return redirect(f"/domains/{domain}/lists?saved={written.revision}", 303)


@blueprint.post("/domains/<domain>/lists/<entry_id>/remove")
@shell.signed_in
async def remove(domain: str, entry_id: str) -> ResponseReturnValue:
    """Remove an entry; one that is gone already is said so."""
    await domains.get(shell.pool(), shell.viewer(), domain)
    try:
        written = await lists.remove(shell.pool(), shell.viewer(), "domain", domain, entry_id)
    except Missing:
        return await _page(domain, 404, "This entry was removed already.")
    live.committed(written)
    return redirect(f"/domains/{domain}/lists?saved={written.revision}", 303)


async def _page(domain: str, code: int, error: str = "", typed: Any = None) -> Response:
    after = request.args.get("after", "")
    found = await lists.listing(shell.pool(), shell.viewer(), "domain", domain, after=after, limit=ROWS + 1)
    path = f"/domains/{domain}/lists"
    context: dict[str, Any] = {
        "nav": "domains",
        "domain": domain,
        "part": "lists",
        "entries": found[:ROWS],
        "older": paging.address(path, {"after": found[ROWS - 1].id}) if len(found) > ROWS else "",
        "newer": path if after else "",
        "spread": await live.saved(domain, request.args.get("saved", "")),
    }
    return await shell.page("entries.html", code, **context, error=error, typed=typed or {})


def _wanted(typed: Any) -> lists.Wanted:
    return lists.Wanted(
        kind="deny" if typed.get("kind") == "deny" else "allow",
        match=typed.get("match", ""),
        expires=_end_of(typed.get("expires", "")),
        authenticated_only=typed.get("authenticated_only") == "yes",
        note=typed.get("note", "").strip(),
    )


def _end_of(day: str) -> datetime | None:
    """The end of a day in UTC: an entry until Friday holds on Friday."""
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1) if day.strip() else None
    except ValueError as error:
        raise Invalid("expires", f"“{day[:20]}” is not a day; write it like 2026-12-31") from error
