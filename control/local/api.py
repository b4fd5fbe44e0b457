"""The HTTP API as the launcher uses it: the same door that everybody has."""

import json
from typing import Any

import httpx

from control.local.layout import Layout, Unusable
from control.local.roster import seeds_file

CALL_WITHIN_S = 30.0


class Api:
    """Calls of `/api/v1` with one token; without one, what asks for none."""

    def __init__(self, layout: Layout, token: str = "") -> None:
        self._base = f"{layout.panel_url}/api/v1"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def call(self, method: str, path: str, body: Any = None, *, accept: tuple[int, ...] = ()) -> Any:
        """The answer's JSON; None for an empty one, and for a status in `accept`. Raises Unusable with its words."""
        try:
            answer = self._ask(method, path, body)
        except httpx.HTTPError as error:
            raise Unusable(f"{method} {path}: the panel does not answer: {error}") from error
        if answer.status_code in accept:
            return None
        if answer.is_error:
            raise Unusable(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def _ask(self, method: str, path: str, body: Any) -> httpx.Response:
        return httpx.request(
            method,
            self._base + path,
            json=body,
            headers=self._headers,
            timeout=CALL_WITHIN_S,
            trust_env=False,
        )


def operator(layout: Layout) -> Api:
    """The API with the operator's token. Raises Unusable where no cluster was made yet."""
    return Api(layout, seeds(layout)["operator_token"])


def seeds(layout: Layout) -> dict[str, Any]:
    """What was made when the cluster was new: account, owner, tokens. Raises Unusable where there is none."""
    try:
        found: dict[str, Any] = json.loads(seeds_file(layout).read_text())
    except FileNotFoundError as error:
        raise Unusable(f"no cluster in {layout.var}: `make up` first") from error
    return found
