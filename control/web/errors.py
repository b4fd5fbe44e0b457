"""Error pages: what happened, what to do next, and the request's id; never an exception's text."""

import asyncpg
from quart import Quart, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from control.web import shell
from monitoring import log

LOG = log.get(__name__)
TEXTS = {
    400: ("This request cannot be read", "Go back and try again; if a form was open for long, load its page first."),
    403: ("This form has expired", "Go back, load the page again, and send the form once more."),
    404: ("Not found", "There is no such page, or it is not yours."),
    405: ("Not found", "There is no such page, or it is not yours."),
    413: ("Too large", "What was sent is larger than this page takes."),
    429: ("Too many tries", "Wait a minute, then try again."),
    503: ("Not available now", "A part of the panel does not answer. Mail is not affected. Try again in a moment."),
}
OURS = ("Something went wrong on our side", "It has been logged. Mail is not affected. Try again in a moment.")


def register(app: Quart) -> None:
    """Pages for every HTTP error outside the API, and one wall for what nobody expected."""

    @app.errorhandler(HTTPException)
    async def known(error: HTTPException) -> Response:
        return await answer(error.code or 500)

    @app.errorhandler(asyncpg.PostgresConnectionError)
    @app.errorhandler(asyncpg.CannotConnectNowError)
    @app.errorhandler(asyncpg.InterfaceError)
    @app.errorhandler(OSError)
    async def away(error: Exception) -> Response:
        LOG.warning("database away", path=request.path, request_id=g.get("request_id", ""), error=repr(error))
        return await answer(503)

    @app.errorhandler(Exception)
    async def unknown(error: Exception) -> Response:
        LOG.error("request failed", path=request.path, request_id=g.get("request_id", ""), exc_info=error)
        return await answer(500)


async def answer(status: int) -> Response:
    """The page of one status."""
    title, text = TEXTS.get(status, OURS)
    if request.path.startswith("/events/"):
        response: Response = jsonify({"title": title})
        response.status_code = status
        return response
    back = ("/sign-in", "To the sign-in") if status == 429 else ("/", "To the overview")
    return await shell.page(
        "error.html",
        status,
        status=status,
        title=title,
        text=text,
        back=back[0],
        back_text=back[1],
        request_id=g.get("request_id", ""),
    )
