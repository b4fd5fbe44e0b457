"""Questions to Prometheus's HTTP API: an instant vector or a range, or PrometheusAway."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

TIMEOUT_S = 3.0
"""A person waits for the page; Prometheus on the same network answers in milliseconds."""


class PrometheusAway(Exception):
    """Prometheus gave no usable answer; the text says how, for a person who may see figures."""


@dataclass(frozen=True, slots=True)
class Series:
    """One time series: its labels and its (unix time, value) samples."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One Prometheus server by its base URL."""

    url: str

    async def now(self, query: str) -> list[Series]:
        """The present value of each series of `query`. Raises PrometheusAway."""
        return [_series(each, [each["value"]]) for each in await self._ask("query", {"query": query})]

    async def over(self, query: str, start: float, end: float, step_s: float) -> list[Series]:
        """Each series of `query` from `start` to `end`. Raises PrometheusAway."""
        asked = {"query": query, "start": str(start), "end": str(end), "step": str(step_s)}
        return [_series(each, each["values"]) for each in await self._ask("query_range", asked)]

    async def _ask(self, call: str, parameters: Mapping[str, str]) -> list[Any]:
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
                response = await client.get(f"{self.url.rstrip('/')}/api/v1/{call}", params=dict(parameters))
                answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise PrometheusAway("No answer came within three seconds.") from error
        if not isinstance(answer, dict) or answer.get("status") != "success":
            raise PrometheusAway(f"It answered with an error (HTTP {response.status_code}).")
        result: list[Any] = answer["data"]["result"]
        return result


def _series(each: Mapping[str, Any], values: Sequence[Sequence[Any]]) -> Series:
    points = [(float(at), float(value)) for at, value in values]
    return Series(each["metric"], [point for point in points if math.isfinite(point[1])])
