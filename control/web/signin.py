"""Sign-in, sign-out, and the theme."""

import ipaddress
from urllib.parse import urlsplit

from quart import Blueprint, Response, ResponseReturnValue, redirect, request

from control import auth
from control.web import shell

THEME_AGE_S = 365 * 86400
WRONG = "E-mail or password is wrong."

blueprint = Blueprint("signin", __name__)


@blueprint.get("/sign-in")
async def form() -> ResponseReturnValue:
    """The form; somebody who is signed in goes on at once."""
    if await shell.recognise():
        return redirect(local(request.args.get("next", "")), 303)
    return await _form(200, going_to=request.args.get("next", ""))


@blueprint.post("/sign-in")
async def sign_in() -> ResponseReturnValue:
    """One answer for a wrong address and a wrong password; throttled by client and by account."""
    await shell.guard(None)
    typed = await request.form
    email, going_to = typed.get("email", ""), typed.get("next", "")
    try:
        cookie = await auth.sign_in(
            shell.pool(),
            email,
            typed.get("password", ""),
            client_ip=_client(),
            user_agent=request.headers.get("User-Agent", ""),
        )
    except auth.Throttled as throttled:
        minutes = max(1, round(throttled.wait_s / 60))
        text = f"Too many tries. Try again in {minutes} minute{'s' if minutes > 1 else ''}."
        return await _form(429, text, email, going_to)
    if cookie is None:
        return await _form(401, WRONG, email, going_to)
    answer = _redirect(going_to)
    _set(answer, auth.COOKIE, cookie, int(auth.SESSION_AGE.total_seconds()))
    return answer


@blueprint.post("/sign-out")
@shell.signed_in
async def sign_out() -> ResponseReturnValue:
    """End this session, here and in the database."""
    await auth.sign_out(shell.pool(), request.cookies.get(auth.COOKIE, ""))
    answer = Response("", 303, {"Location": "/sign-in"})
    answer.delete_cookie(auth.COOKIE)
    return answer


@blueprint.post("/theme")
@shell.signed_in
async def theme() -> ResponseReturnValue:
    """Remember light, dark or auto in a cookie of its own, so that the first byte of a page knows it."""
    typed = await request.form
    answer = _redirect(typed.get("back", ""))
    if typed.get("theme") in shell.THEMES:
        _set(answer, "theme", typed["theme"], THEME_AGE_S)
    return answer


def local(address: str) -> str:
    """`address` if it is a page of ours, else the overview: a link to the sign-in never leads away."""
    parts = urlsplit(address.strip())
    ours = address.startswith("/") and not address.startswith("//") and not parts.scheme and not parts.netloc
    return address if ours and "\\" not in address and address.isprintable() else "/"


def _redirect(address: str) -> Response:
    return Response("", 303, {"Location": local(address)})


def _client() -> str:
    """The client's address; "" for what is none, such as a proxy's unix socket."""
    try:
        return str(ipaddress.ip_address(request.remote_addr or ""))
    except ValueError:
        return ""


async def _form(code: int, error: str = "", email: str = "", going_to: str = "") -> Response:
    return await shell.page("signin.html", code, error=error, message="", email=email, next=going_to)


def _set(answer: Response, name: str, value: str, age_s: int) -> None:
    """A cookie for us alone. `Secure` follows the panel's public address: a demo on loopback has no TLS."""
    secure = shell.services().settings.panel_url.startswith("https:")
    answer.set_cookie(name, value, max_age=age_s, path="/", httponly=True, samesite="Lax", secure=secure)
