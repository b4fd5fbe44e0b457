"""The nodes page: which revision each member judges by, how old its report is, what its spool holds."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quart import Blueprint, ResponseReturnValue

from control.app import services
from control.receipts import AWAY, LIVE, UNHEARD, At, Point
from control.store import nodes as store
from control.web import shell, words
from control.web.prometheus import Prometheus, PrometheusAway, Series

STATES = {AWAY: "no contact", UNHEARD: "never heard"}
CONTENT = {True: "agrees", False: "differs", None: "not comparable yet"}

blueprint = Blueprint("nodes", __name__)


@dataclass(frozen=True, slots=True)
class Published:
    """What members are compared with: the newest published point, for every member."""

    generation: int
    revision: int
    members: tuple[str, ...]
    key: str = ""
    stamp: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One member as the page shows it."""

    name: str
    tone: str
    state: str
    address: str
    revision: int | None
    behind: int
    content: str
    age: str
    spool: str
    oldest: str
    applied: bool


@dataclass(frozen=True, slots=True)
class Spools:
    """Unreleased records and the age of the oldest by node, as Prometheus knows them."""

    records: Mapping[str, float]
    oldest_s: Mapping[str, float]


@blueprint.get("/nodes")
@shell.signed_in
async def nodes() -> ResponseReturnValue:
    """Every member; a node that never reported is there too."""
    members = await store.listing(shell.pool())
    receipts = services().receipts
    point: Point = receipts.published or (0, 0)
    at = receipts.nodes(Published(*point, members=tuple(each.name for each in members)))
    spools = await _spools()
    rows = [_row(each, at[each.name], point, spools) for each in members]
    return await shell.page(
        "nodes.html", nav="nodes", nodes=rows, prometheus=spools is not None, sentence=_sentence(rows, point)
    )


def _row(node: store.Node, at: At, point: Point, spools: Spools | None) -> Row:
    records = spools.records.get(node.name) if spools else None
    oldest = spools.oldest_s.get(node.name) if spools else None
    state = node.state if node.state != "joined" else STATES.get(at.state, at.state)
    good = at.state == LIVE and at.agrees is not False and node.state == "joined"
    return Row(
        name=node.name,
        tone="good" if good and at.applied else "bad" if at.state in STATES or at.agrees is False else "warn",
        state=state,
        address=f"{node.smtp_host}:{node.smtp_port}" if shell.viewer().is_operator else "",
        revision=at.revision,
        behind=max(0, point[1] - at.revision) if at.revision is not None else 0,
        content=CONTENT[at.agrees],
        age="never" if at.age_s is None else words.age(at.age_s),
        spool="–" if records is None else words.number(records),
        oldest="–" if not records or oldest is None else words.age(oldest),
        applied=at.applied,
    )


def _sentence(rows: Sequence[Row], point: Point) -> str:
    if not rows:
        return "The fleet has no member yet."
    if point == (0, 0):
        return "What is published is not known yet: etcd was not heard since the panel began."
    have = sum(row.applied for row in rows)
    return f"{have} of {len(rows)} nodes judge by revision {point[1]}, the newest."


async def _spools() -> Spools | None:
    prometheus = Prometheus(services().settings.prometheus_url)
    try:
        return await asyncio.wait_for(_ask(prometheus), 4)
    except (PrometheusAway, TimeoutError):
        return None


async def _ask(prometheus: Prometheus) -> Spools:
    records, oldest = await asyncio.gather(
        prometheus.now("sum by (node) (syncd_spool_records)"),
        prometheus.now("max by (node) (syncd_spool_oldest_seconds)"),
    )
    return Spools(_by_node(records), _by_node(oldest))


def _by_node(found: Sequence[Series]) -> dict[str, float]:
    return {each.labels.get("node", ""): each.points[-1][1] for each in found if each.points}
