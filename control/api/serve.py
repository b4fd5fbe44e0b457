"""The shell around the declared operations: routes, bearer tokens, bounds, counters, and the wall for errors."""

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial

import asyncpg
import msgspec
from quart import Quart, Request, Response, request
from werkzeug.exceptions import HTTPException

from control import auth
from control.api import (
    accounts,
    acts,
    bulk,
    bulk_acts,
    domains,
    internal,
    keeping,
    lists,
    messages,
    nodes,
    openapi,
    problems,
    quarantine,
    recipients,
    restore,
    settings,
)
from control.api.operation import OPERATIONS, Answer, Asked, Operation, read_body, read_query
from control.api.problems import refused
from control.app import Services, services
from control.store.errors import StoreError
from control.store.pool import AWAY
from monitoring import log
from monitoring.metrics import control as metrics

PREFIX = "/api/v1"
ANYBODY = auth.Viewer("anybody", "", "owner", "api")
"""Asks what needs no token; it belongs to no account and sees nobody's."""

LOG = log.get(__name__)
DECLARING = (
    domains,
    settings,
    bulk,
    lists,
    recipients,
    quarantine,
    acts,
    bulk_acts,
    keeping,
    messages,
    accounts,
    nodes,
    restore,
)
"""Modules that declare operations as they are imported."""
_PARAMETER = re.compile(r"\{(\w+)\}")
_ENCODER = msgspec.json.Encoder()


def register(app: Quart) -> None:
    """Add a route for each declared operation, OpenAPI, the internal addresses, and problem details for the rest."""
    for declared in OPERATIONS:
        app.add_url_rule(
            PREFIX + _PARAMETER.sub(r"<\1>", declared.path),
            endpoint=f"api.{declared.name}",
            view_func=partial(_counted, partial(_serve, declared)),
            methods=[declared.method],
            provide_automatic_options=False,
        )
    app.add_url_rule(f"{PREFIX}/openapi.json", "api.openapi", openapi.document)
    app.add_url_rule(f"{PREFIX}/<path:rest>", "api.missing", partial(_counted, _missing), methods=list(_METHODS))
    internal.register(app)


_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")


async def _counted(serve: Callable[..., Awaitable[Response]], **path: str) -> Response:
    """Answer, whatever happens, with a proper response; count and time it."""
    began, request_id = time.monotonic(), secrets.token_hex(6)
    answer = await _walled(serve, request_id, path)
    answer.headers["X-Request-Id"] = request_id
    answer.headers.setdefault("Cache-Control", "no-store")
    metrics.http_requests.labels("api", f"{answer.status_code // 100}xx").inc()
    metrics.http_seconds.labels("api").observe(time.monotonic() - began)
    return answer


async def _walled(serve: Callable[..., Awaitable[Response]], request_id: str, path: dict[str, str]) -> Response:
    try:
        return await serve(**path)
    except problems.Refused as refusal:
        return problems.response(refusal.problem, refusal.headers)
    except StoreError as error:
        return problems.response(problems.of(error))
    except asyncpg.DataError as error:
        # Our own checks should have caught it; the value is still the client's, not a fault of the service.
        LOG.warning("value refused by the database", path=request.path, request_id=request_id, error=str(error))
        return _problem(422, "a value is out of range or no text", request_id)
    except AWAY as error:
        LOG.warning("database away", path=request.path, request_id=request_id, error=repr(error))
        answer = _problem(503, "the database does not answer; mail is not affected; try again in a moment", request_id)
        answer.headers["Retry-After"] = "2"
        return answer
    except HTTPException as error:
        return _problem(error.code or 500, error.description or "", request_id)
    except Exception:
        LOG.exception("request failed", path=request.path, request_id=request_id)
        return _problem(500, "it has been logged under this request id", request_id)


def _problem(status: int, detail: str, request_id: str) -> Response:
    status = status if status in problems.TITLES else 400 if status < 500 else 500
    return problems.response(problems.Problem(problems.TITLES[status], status, detail, request_id=request_id))


async def _serve(declared: Operation, **path: str) -> Response:
    found = services()
    if any("\x00" in part for part in path.values()):
        raise refused(404)
    viewer = await _viewer(declared, found)
    query = read_query(declared, request.args)
    body = None if declared.body is None else read_body(declared, await _data(request))
    asked = Asked(found, viewer, path, query, body, _etag(request.headers.get("If-Match")))
    return _response(declared, await declared.handler(asked))


async def _viewer(declared: Operation, found: Services) -> auth.Viewer:
    if declared.audience == "anybody":
        return ANYBODY
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    door: auth.Door = "cli" if request.headers.get("User-Agent", "").startswith("mxctl/") else "api"
    viewer = await auth.by_token(found.pool, token.strip(), door) if scheme.lower() == "bearer" else None
    if viewer is None:
        raise refused(401, "send the header “Authorization: Bearer <token>”", WWW_Authenticate="Bearer")
    if declared.audience == "operator" and not viewer.is_operator:
        raise refused(403, "this is for the operator of the installation")
    return viewer


async def _data(asked: Request) -> bytes:
    data = await asked.get_data(as_text=False)
    return data if isinstance(data, bytes) else data.encode()


def _response(declared: Operation, answer: Answer) -> Response:
    media_type = declared.answers.get(answer.status)
    if isinstance(media_type, str):
        made = Response(answer.body, answer.status, content_type=media_type)
        if not isinstance(answer.body, bytes):
            made.timeout = None  # given out as it is made: as long as somebody takes it
    elif answer.body is None:
        made = Response(b"", answer.status)
    else:
        made = Response(_ENCODER.encode(answer.body), answer.status, content_type="application/json")
    made.headers.update(answer.headers)
    return made


async def _missing(rest: str) -> Response:
    """What is no address of the API: 404, or 405 with the methods that the address has."""
    path = "/" + rest
    methods = sorted({each.method for each in OPERATIONS if _fits(each.path, path)})
    if methods:
        raise refused(405, f"this address takes {', '.join(methods)}", Allow=", ".join(methods))
    raise refused(404, "no such address; see /api/v1/openapi.json")


def _fits(template: str, path: str) -> bool:
    pattern = _PARAMETER.sub("[^/]+", template.replace(".", r"\."))
    return re.fullmatch(pattern, path) is not None


def _etag(header: str | None) -> str | None:
    """The value of an If-Match field: quotes, a weak mark and "*" taken off (RFC 9110 section 13.1.1)."""
    if header is None or header.strip() == "*":
        return None
    return header.strip().removeprefix("W/").strip('"')
