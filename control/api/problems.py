"""Errors of the API as problem details (RFC 9457): a title, a status, what is wrong and what to do."""

from collections.abc import Mapping
from typing import Any

import msgspec
from quart import Response

from control.store.documents import as_json
from control.store.errors import Forbidden, Invalid, Missing, Outdated, StoreError, Taken, TooLate

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "The request cannot be read",
    401: "A valid bearer token is needed",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    408: "The request came too slowly",
    409: "In conflict with what is there",
    410: "Gone",
    413: "Too large",
    415: "Unsupported media type",
    422: "The request holds a value that cannot be taken",
    429: "Too many requests",
    500: "Something went wrong on our side",
    503: "A part of the control plane does not answer",
}
STATUS: Mapping[type[StoreError], int] = {
    Missing: 404,
    Taken: 409,
    Outdated: 409,
    TooLate: 409,
    Forbidden: 403,
    Invalid: 422,
}


class Problem(msgspec.Struct, omit_defaults=True):
    """An error of the API (RFC 9457). `field` and `reason` name the value that cannot be taken.

    `start` and `end` mark the characters of a search that the reason is about: from the one, to before the other.
    """

    title: str
    status: int
    detail: str = ""
    field: str = ""
    reason: str = ""
    request_id: str = ""
    start: int = 0
    end: int = 0
    newer: dict[str, Any] = {}
    """With 409: what was saved since: revision, hash, author, and the diff as path, before, after."""


class Refused(Exception):
    """A request that is answered with a problem; raised anywhere in a handler."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem, self.headers = problem, dict(headers or {})


def refused(status: int, detail: str = "", *, field: str = "", reason: str = "", **headers: str) -> Refused:
    """A problem to raise; headers by keyword, "_" for "-"."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Refused(Problem(TITLES[status], status, detail, field, reason), named)


def of(error: StoreError) -> Problem:
    """The problem of what the store refused."""
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    problem = Problem(TITLES[status], status, str(error))
    if isinstance(error, Invalid):
        problem.field, problem.reason = error.field, error.reason
    if isinstance(error, Outdated):
        newer = error.newer
        problem.newer = {
            "revision": newer.revision,
            "hash": newer.hash,
            "author": newer.author,
            "diff": [as_json(each) for each in newer.diff],
        }
    return problem


def response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that carries a problem."""
    answer = Response(msgspec.json.encode(problem), problem.status, content_type=MEDIA_TYPE)
    answer.headers.update(headers or {})
    return answer
