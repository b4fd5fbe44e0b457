"""`/internal`: what our own machinery asks on loopback: Prometheus's service discovery."""

import ipaddress
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from quart import Quart, Response, abort, request

from control.app import services
from control.store import nodes
from control.store.pool import AWAY
from monitoring import log
from monitoring.metrics import control as metrics

LOG = log.get(__name__)
STATES = ("joined", "draining", "drained")


def register(app: Quart) -> None:
    """Add the internal addresses."""
    app.add_url_rule("/internal/sd/prometheus", "internal.prometheus", prometheus)


async def prometheus() -> Response:
    """Every process to scrape, as http_sd wants it (Prometheus, "HTTP SD"): joined nodes come without a config edit."""
    if not _is_loopback(request.remote_addr):
        abort(404)
    found = services()
    try:
        members = await nodes.listing(found.pool)
    except AWAY as error:
        # Prometheus keeps the targets it knows when this fails; an answer without the nodes would drop them.
        LOG.warning("service discovery without the database", error=repr(error))
        metrics.http_requests.labels("internal", "5xx").inc()
        return Response("the database does not answer\n", 503, content_type="text/plain; charset=utf-8")
    _count(members)
    targets = [_target("control", process, url) for process, url in found.settings.scrape.items()]
    targets += [_target(node.name, process, url) for node in members for process, url in node.scrape.items()]
    metrics.http_requests.labels("internal", "2xx").inc()
    return Response(msgspec.json.encode(targets), content_type="application/json")


def _count(members: Sequence[nodes.Node]) -> None:
    """Members by state, as often as Prometheus looks."""
    for state in STATES:
        metrics.members.labels(state).set(sum(member.state == state for member in members))


def _target(node: str, process: str, url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    labels = {
        "node": node,
        "process": process,
        "__scheme__": parts.scheme,
        "__metrics_path__": parts.path or "/metrics",
    }
    return {"targets": [parts.netloc], "labels": labels}


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
