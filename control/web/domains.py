"""The list of domains, and the form that adds one."""

from typing import Any

from quart import Blueprint, Response, ResponseReturnValue, redirect, request

from control import ownership
from control.app import services
from control.store import accounts, domains, names
from control.store.errors import Invalid, StoreError
from control.web import live, shell
from syncd.layers import NextHop, TlsMode

TLS: tuple[TlsMode, ...] = ("opportunistic", "required", "verified")

blueprint = Blueprint("domains", __name__)


@blueprint.get("/domains")
@shell.signed_in
async def listing() -> ResponseReturnValue:
    """The viewer's domains."""
    return await _page(200)


@blueprint.post("/domains")
@shell.signed_in
async def add() -> ResponseReturnValue:
    """Serve a domain, and go to its settings; what is wrong is said above the form, which keeps what was typed."""
    typed = await request.form
    try:
        name = names.domain(typed.get("name", ""))
        hop = NextHop(typed.get("host", ""), _port(typed.get("port", "")), _tls(typed.get("tls", "")))
        hops, account = domains.checked([hop]), _account(typed.get("account", ""))
        if not shell.viewer().is_operator:
            await ownership.require_proof(services().settings, account, name)
        written = await domains.create(shell.pool(), shell.viewer(), account, name, hops)
    except StoreError as error:
        return await _page(422, error=str(error).removeprefix("name: "), typed=typed)
    live.committed(written)
    return redirect(f"/domains/{name}/settings?saved={written.revision}", 303)


async def _page(code: int, error: str = "", typed: Any = None) -> Response:
    viewer = shell.viewer()
    found = await domains.listing(shell.pool(), viewer)
    customers = await accounts.listing(shell.pool(), viewer) if viewer.is_operator else ()
    context = {"nav": "domains", "domains": found, "accounts": customers, "tls_modes": TLS, "proof": _proof()}
    return await shell.page("domains.html", code, **context, error=error, typed=typed or {})


def _account(typed: str) -> str:
    """The account that gets the domain: the viewer's own, or the one an operator chose."""
    own = shell.viewer().account_id
    if own is None and not typed:
        raise Invalid("account", "choose the account that gets the domain")
    return own or typed


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        raise Invalid("port", "must be a number from 1 to 65535")
    return int(text)


def _tls(text: str) -> TlsMode:
    return next((mode for mode in TLS if mode == text), "opportunistic")


def _proof() -> tuple[str, str]:
    """Name and text of the TXT record that proves a domain; ("", "") for the operator, who is not asked."""
    own = shell.viewer().account_id
    return (ownership.LABEL, ownership.record(own)) if own else ("", "")
