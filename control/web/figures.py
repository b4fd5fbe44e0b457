"""The fleet's figures, drawn on the server from Prometheus: what is asked, and how it is shown."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from quart import Blueprint, ResponseReturnValue, request

from control.web import charts, shell, words
from control.web.prometheus import Prometheus, PrometheusAway, Series

RANGES = {"15m": 900, "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800}
COLOURS = {words.label(name): colour for name, colour in words.OUTCOME_COLOURS.items()}
POINTS = 150
"""Samples a line; more than a phone can show, fewer than would slow the page."""

blueprint = Blueprint("figures", __name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """One chart: its title, its question and the label that names its lines."""

    title: str
    query: str
    label: str
    unit: str = ""
    show: Callable[[float], str] = charts.compact
    alone: str = ""
    """Name of the only line when the query sums everything."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of now."""

    name: str
    value: str
    more: str
    tone: str


CHARTS = (
    Asked(
        "Recipients by outcome",
        "sum by (outcome) (rate(mx_ledger_recipients_total[$window]))",
        "outcome",
        "per second",
    ),
    Asked("Connections", "sum by (result) (rate(mx_smtp_connections_total[$window]))", "result", "per second"),
    Asked(
        "From the final dot to our reply",
        "histogram_quantile(0.99, sum by (le) (rate(mx_reply_seconds_bucket[$window])))",
        "",
        "99 of 100 are faster",
        words.age,
        "p99",
    ),
    Asked("In the spool", 'sum by (node) (syncd_spool_records{process="spool"})', "node", "records"),
    Asked(
        "Oldest in the spool", 'max by (node) (syncd_spool_oldest_seconds{process="spool"})', "node", "age", words.age
    ),
    Asked("Settings revision", 'max by (node) (syncd_follow_revision{process="follow"})', "node"),
    Asked(
        "Since etcd was heard", 'max by (node) (syncd_follow_heard_seconds{process="follow"})', "node", "age", words.age
    ),
    Asked("Ledger drift", "sum by (node) (mx_ledger_drift)", "node", "recipients, must be 0"),
)


@blueprint.get("/figures")
@shell.signed_in
async def figures() -> ResponseReturnValue:
    """The page; a plain state instead of charts when Prometheus is away."""
    chosen = request.args.get("range", "1h")
    chosen = chosen if chosen in RANGES else "1h"
    prometheus = Prometheus(shell.services().settings.prometheus_url)
    context: dict[str, Any] = {"nav": "figures", "ranges": tuple(RANGES), "range": chosen, "error": ""}
    try:
        drawn, tiles = await asyncio.wait_for(_all(prometheus, RANGES[chosen]), timeout=10)
    except (PrometheusAway, TimeoutError) as error:
        return await shell.page("figures.html", **{**context, "error": str(error) or "It took too long."})
    return await shell.page("figures.html", **context, figures=drawn, tiles=tiles)


async def _all(prometheus: Prometheus, span_s: int) -> tuple[list[charts.Figure], list[Tile]]:
    end = time.time()
    try:
        async with asyncio.TaskGroup() as group:
            drawn = [group.create_task(_chart(prometheus, asked, end - span_s, end)) for asked in CHARTS]
            tiles = group.create_task(_tiles(prometheus))
    except* PrometheusAway as away:
        raise PrometheusAway(str(away.exceptions[0])) from away
    return [task.result() for task in drawn], tiles.result()


async def _chart(prometheus: Prometheus, asked: Asked, start: float, end: float) -> charts.Figure:
    step = max(5.0, (end - start) / POINTS)
    window = f"{max(60, int(step * 4))}s"
    found = await prometheus.over(asked.query.replace("$window", window), start, end, step)
    series = {_name(each, asked): each.points for each in sorted(found, key=lambda each: _name(each, asked))}
    return charts.lines(asked.title, series, (start, end), unit=asked.unit, show=asked.show, colours=COLOURS)


def _name(series: Series, asked: Asked) -> str:
    text = series.labels.get(asked.label, "")
    return (words.label(text) if asked.label != "node" else text) or asked.alone or "all"


async def _tiles(prometheus: Prometheus) -> list[Tile]:
    up, down, rate, drift, revision = await asyncio.gather(
        _one(prometheus, "sum(up)"),
        _one(prometheus, "count(up == 0) or vector(0)"),
        _one(prometheus, "sum(rate(mx_ledger_recipients_total[1m]))"),
        _one(prometheus, "sum(abs(mx_ledger_drift))"),
        _one(prometheus, 'min(syncd_follow_revision{process="follow"})'),
    )
    return [
        Tile("Processes up", _shown(up), "all answer" if not down else f"{down:.0f} do not answer", _tone(down, up)),
        Tile("Recipients a second", _shown(rate), "over the last minute", ""),
        Tile("Ledger drift", _shown(drift), "adds up" if drift == 0 else "must be 0", _tone(drift, drift)),
        Tile("Settings revision", _shown(revision), "lowest of all nodes", ""),
    ]


async def _one(prometheus: Prometheus, query: str) -> float | None:
    found: Sequence[Series] = await prometheus.now(query)
    return found[0].points[-1][1] if found and found[0].points else None


def _shown(value: float | None) -> str:
    return "–" if value is None else charts.compact(value)


def _tone(wrong: float | None, known: float | None) -> str:
    return "" if known is None else "bad" if wrong else "good"
