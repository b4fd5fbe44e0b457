"""A domain's settings: the form, saving what was changed in it, and what to say when that cannot be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quart import Blueprint, Response, ResponseReturnValue, redirect, request

from control.store import history, settings
from control.store.documents import merge
from control.store.errors import Difference, Invalid, Outdated
from control.store.settings import Stand
from control.web import changes, fields, live, shell
from control.web.formdata import FieldError
from mx.filters import DECLARED

blueprint = Blueprint("settings", __name__)


@dataclass(frozen=True, slots=True)
class Saved:
    """A revision that was saved just now."""

    revision: int
    changes: list[changes.Change]


@dataclass(frozen=True, slots=True)
class Conflict:
    """What somebody else saved since the form was drawn, and what was to be saved."""

    revision: int
    base: str
    author: str
    theirs: list[changes.Change]
    mine: list[changes.Change]


@blueprint.get("/domains/<domain>")
@shell.signed_in
async def domain_home(domain: str) -> ResponseReturnValue:
    """A domain's address leads to its settings."""
    return redirect(f"/domains/{domain}/settings", 302)


@blueprint.get("/domains/<domain>/settings")
@shell.signed_in
async def form(domain: str) -> ResponseReturnValue:
    """The form; after a save, what it changed and where that is live."""
    stand = await settings.read(shell.pool(), shell.viewer(), "domain", domain)
    revision = live.number(request.args.get("saved", ""))
    context: dict[str, Any] = {"unchanged": request.args.get("saved") == "nothing"}
    if revision:
        context["saved"] = await _saved(domain, revision)
        context["spread"] = await live.saved(domain, str(revision))
    return await _page(200, domain, stand, **context)


@blueprint.post("/domains/<domain>/settings")
@shell.signed_in
async def save(domain: str) -> ResponseReturnValue:
    """Save what differs from what the form showed, under the revision it was drawn from."""
    stand = await settings.read(shell.pool(), shell.viewer(), "domain", domain)
    typed = await request.form
    drawn = fields.groups(DECLARED, stand)
    try:
        patch = fields.read(drawn, typed, typed.getlist("reset"))
    except FieldError as error:
        return await _page(422, domain, stand, typed=typed, errors={error.path: error.reason})
    if not patch:
        return redirect(f"/domains/{domain}/settings?saved=nothing", 303)
    if (danger := _dangers(drawn, patch)) and typed.get("confirm") != "yes":
        return await _page(422, domain, stand, typed=typed, danger=danger)
    try:
        base = typed.get("base", "")
        written = await settings.patch(shell.pool(), shell.viewer(), "domain", domain, patch, base=base or None)
    except Invalid as error:
        return await _page(422, domain, stand, typed=typed, errors={error.field: error.reason})
    except Outdated as error:
        return await _conflict(domain, error, base, patch)
    live.committed(written)
    return redirect(f"/domains/{domain}/settings?saved={written.revision if written.changed else 'nothing'}", 303)


async def _page(
    code: int,
    domain: str,
    stand: Stand,
    *,
    typed: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
    **context: Any,
) -> Response:
    drawn = fields.groups(DECLARED, stand)
    if typed is not None:
        drawn = fields.retyped(drawn, typed)
    context = {"nav": "domains", "domain": domain, "part": "settings", "danger": (), "conflict": None, **context}
    base = (typed or {}).get("base", "") or str(stand.layer.revision)
    context |= {"groups": drawn, "revision": stand.layer.revision, "base": base, "errors": fields.by_path(errors or {})}
    return await shell.page("settings.html", code, **context)


async def _conflict(domain: str, error: Outdated, base: str, patch: Mapping[str, Any]) -> Response:
    """The form over what was saved meanwhile, with this change filled in on top; saving again overwrites knowingly."""
    stand = await settings.read(shell.pool(), shell.viewer(), "domain", domain)
    newer = error.newer
    merged = merge(stand.resolved, patch)
    conflict = Conflict(
        newer.revision,
        base,
        newer.author,
        theirs=_changes(newer.diff),
        mine=changes.between(stand.resolved, merged),
    )
    drawn = fields.filled(fields.groups(DECLARED, stand), patch)
    context: dict[str, Any] = {"nav": "domains", "domain": domain, "part": "settings", "danger": (), "errors": {}}
    context |= {"groups": drawn, "revision": stand.layer.revision, "base": str(stand.layer.revision)}
    return await shell.page("settings.html", 409, **context, conflict=conflict)


async def _saved(domain: str, revision: int) -> Saved | None:
    found = await history.listing(shell.pool(), shell.viewer(), "domain", domain, before=revision + 1, limit=1)
    if not found or found[0].revision != revision:
        return None
    return Saved(revision, changes.between(found[0].before, found[0].after))


def _dangers(drawn: Sequence[fields.Group], patch: Mapping[str, Mapping[str, Any]]) -> list[str]:
    every = [each for group in drawn for each in group.every]
    return [
        f"{each.label}: {each.dangerous}"
        for each in every
        if each.dangerous and each.name in patch.get(each.section, {})
    ]


def _changes(found: Sequence[Difference]) -> list[changes.Change]:
    return [change for each in found for change in changes.between(each.before, each.after, each.path)]
