"""The shell of every page: who is signed in, what the frame needs, rendering, and the guard of forms."""

import hashlib
from collections.abc import Awaitable, Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec
from urllib.parse import urlencode

from quart import Response, ResponseReturnValue, abort, g, make_response, redirect, render_template, request

from control import auth
from control.app import Services, services
from control.auth import Session, Viewer
from control.store.errors import Forbidden, Missing

STATIC = Path(__file__).parent / "static"
THEMES = ("auto", "light", "dark")
P = ParamSpec("P")
View = Callable[P, Awaitable[ResponseReturnValue]]

__all__ = ["Services", "asset", "guard", "page", "pool", "recognise", "services", "signed_in", "viewer"]


def signed_in(view: View[P]) -> View[P]:
    """Let only signed-in people in; a form must come from our own page and carry its session's token."""

    @wraps(view)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
        session = await recognise()
        if session is None:
            return _to_sign_in()
        g.session = session
        if request.method not in ("GET", "HEAD"):
            await guard(session)
        try:
            return await view(*args, **kwargs)
        except (Missing, Forbidden):
            # What is not there and what is somebody else's are the same page (promise of the API, design section 8).
            abort(404)

    return guarded


async def recognise() -> Session | None:
    """The session of this request's cookie."""
    cookie = request.cookies.get(auth.COOKIE, "")
    return await auth.by_session(pool(), cookie) if cookie else None


async def guard(session: Session | None) -> None:
    """Refuse with 403 a writing request from another site, or without the session's token when there is a session."""
    foreign = auth.is_foreign(
        origin=request.headers.get("Origin"),
        fetch_site=request.headers.get("Sec-Fetch-Site"),
        host=request.host,
    )
    if foreign or (session and not auth.csrf_fits(session, (await request.form).get("csrf", ""))):
        abort(403)


def viewer() -> Viewer:
    """Who asks; only inside a `signed_in` view."""
    session: Session = g.session
    return session.viewer


def pool() -> Any:
    """The asyncpg pool."""
    return services().pool


async def page(template: str, code: int = 200, **context: Any) -> Response:
    """One rendered page with what the frame needs."""
    return await answered(await render_template(template, **_frame(), **context), code)


async def answered(*parts: Any) -> Response:
    """An answer of Quart's, whose header fields can be set."""
    answer = await make_response(*parts)
    assert isinstance(answer, Response), "no view of ours gives one of Werkzeug's own"
    return answer


@cache
def asset(name: str) -> str:
    """Address of a static file with its content's hash, so that a new version is fetched at once."""
    digest = hashlib.blake2b((STATIC / name).read_bytes(), digest_size=6).hexdigest()
    return f"/static/{name}?v={digest}"


def _frame() -> dict[str, Any]:
    session: Session | None = g.get("session")
    theme = request.cookies.get("theme", "auto")
    return {
        "viewer": session.viewer if session else None,
        "csrf": session.csrf if session else "",
        "theme": theme if theme in THEMES else "auto",
        "here": request.full_path.rstrip("?") if request.method == "GET" else "/",
    }


def _to_sign_in() -> ResponseReturnValue:
    """To the sign-in, and from there back to a page that was asked for (never to a form's target)."""
    asked = request.full_path.rstrip("?") if request.method == "GET" and request.path != "/" else ""
    if request.headers.get("HX-Request"):
        return "", 401, {"HX-Redirect": "/sign-in"}
    return redirect("/sign-in" + ("?" + urlencode({"next": asked}) if asked else ""), 303)
