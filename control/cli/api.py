"""The API as mxctl uses it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

DEMO = "demo.json"
"""In the directory VAR (default `var`) of a cluster started by `make up`."""
CALL_WITHIN_S = 90.0
"""Longer than the longest wait that the API grants."""
USER_AGENT = "mxctl/1"
"""By this the history tells changes made here from those of other programs."""

NOT_ANSWERING, REFUSED, THEIR_SIDE = 3, 4, 5


class Trouble(Exception):
    """A command cannot be done; the text says why and what to do, `body` is the API's own problem if it sent one."""

    def __init__(self, text: str, exit_status: int, body: Any = None) -> None:
        super().__init__(text)
        self.exit_status, self.body = exit_status, body


def call(
    method: str,
    path: str,
    body: Any = None,
    *,
    query: Mapping[str, Any] | None = None,
    operator: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """The answer's JSON; None for an empty one. `operator`: with the operator's token where both are known."""
    answer = ask(method, path, body, query=query, operator=operator, headers=headers)
    return answer.json() if answer.content else None


def ask(
    method: str,
    path: str,
    body: Any = None,
    *,
    query: Mapping[str, Any] | None = None,
    operator: bool = False,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """The whole answer. Raises Trouble for everything that is no success."""
    url, token = place(operator=operator)
    return ask_at(url, method, path, body, query=query, headers={"Authorization": f"Bearer {token}", **(headers or {})})


def ask_at(
    url: str,
    method: str,
    path: str,
    body: Any = None,
    *,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """The answer of the panel at `url`. Raises Trouble."""
    given = {name: value for name, value in (query or {}).items() if value not in (None, "", False)}
    try:
        answer = httpx.request(
            method,
            f"{url.rstrip('/')}/api/v1{path}",
            params=given,
            json=body,
            headers={"User-Agent": USER_AGENT, **(headers or {})},
            timeout=CALL_WITHIN_S,
            trust_env=not _is_here(url),
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Trouble(f"{url} does not answer: {error or type(error).__name__}", NOT_ANSWERING) from error
    if answer.is_success:
        return answer
    raise _trouble(answer)


def place(*, operator: bool = False) -> tuple[str, str]:
    """(URL, token) from the environment, or from the cluster started in this directory. Raises Trouble."""
    url, token = os.environ.get("MXCTL_URL", ""), os.environ.get("MXCTL_TOKEN", "")
    if url and token:
        return url, token
    known = Path(os.environ.get("VAR") or "var") / DEMO
    try:
        demo = json.loads(known.read_text())
        return url or demo["panel"], token or demo["operator_token" if operator else "token"]
    except (OSError, ValueError, KeyError) as error:
        text = "where is the panel? Set MXCTL_URL and MXCTL_TOKEN, or run this beside a cluster started by `make up`"
        raise Trouble(f"{text} ({known}: {error})", 2) from error


def _is_here(url: str) -> bool:
    """Whether the panel runs on this machine: no proxy of the environment leads there."""
    return httpx.URL(url).host in ("127.0.0.1", "::1", "localhost")


def _trouble(answer: httpx.Response) -> Trouble:
    try:
        problem = answer.json()
        text = problem.get("detail") or problem["title"]
    except (ValueError, KeyError, AttributeError):
        problem, text = None, answer.text[:300] or answer.reason_phrase
    if answer.status_code == 401:
        text = "the token is not valid here; look at MXCTL_TOKEN"
    return Trouble(text, REFUSED if answer.is_client_error else THEIR_SIDE, problem)
