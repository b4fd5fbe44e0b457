"""The first page: what happened today, the last fortnight, and what to do next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from quart import Blueprint, ResponseReturnValue

from control.quarantine import search
from control.store import rollups
from control.web import charts, shell, words

DAYS = 14
SERIES = {name: words.OUTCOME_COLOURS[name] for name in ("delivered", "kept", "refused", "deferred")}

blueprint = Blueprint("overview", __name__)


@dataclass(frozen=True, slots=True)
class Tile:
    """One outcome of today."""

    name: str
    count: int
    tone: str
    more: str


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do; `done` ones are shown ticked."""

    text: str
    done: bool
    href: str = ""
    more: str = ""


@blueprint.get("/")
@shell.signed_in
async def overview() -> ResponseReturnValue:
    """The page."""
    today = datetime.now(UTC).date()
    pool, viewer = shell.pool(), shell.viewer()
    days = await rollups.by_day(pool, viewer, today, DAYS)
    domains = await rollups.by_domain(pool, viewer, today)
    latest = await search.search(pool, viewer, search.Query(limit=5))
    series = {words.label(name): [counts[name] for counts in days.values()] for name in SERIES}
    figure = charts.stacked("Recipients a day by outcome", list(days), series, tuple(SERIES.values()))
    return await shell.page(
        "overview.html",
        nav="overview",
        today=today,
        tiles=_tiles(days[today]),
        figure=figure,
        domains=[{"name": each.domain, **each.counts} for each in domains],
        steps=_steps(domains, days, latest.items),
        latest=latest.items,
    )


def _tiles(today: Mapping[str, int]) -> list[Tile]:
    later = f", {words.number(today['later'])} more wait for your server" if today["later"] else ""
    return [
        Tile("Delivered", today["delivered"], "good", f"of {words.number(sum(today.values()))} recipients{later}"),
        Tile("Kept", today["kept"], "warn", "in the quarantine"),
        Tile("Refused without a copy", today["refused"], "bad", "unknown recipients and the like"),
        Tile("Deferred", today["deferred"], "", "the sender tries again"),
    ]


def _steps(domains: Sequence[Any], days: Mapping[Any, Mapping[str, int]], latest: Sequence[Any]) -> list[Step]:
    seen = sum(sum(counts.values()) for counts in days.values())
    settings = f"/domains/{domains[0].domain}/settings" if domains else "/domains"
    waiting = sum(each.status == "kept" for each in latest)
    look = Step(
        "Look through the quarantine" if waiting else "Nothing new waits in the quarantine",
        not waiting,
        "/quarantine",
        "Deliver what you miss; each mail says why it was kept." if waiting else "",
    )
    return [
        Step("Add a domain", bool(domains), "/domains#add"),
        Step(
            "Get the first mail",
            seen > 0,
            "/messages",
            "" if seen else "Point the domain's MX record here, or send a test; it shows up under Messages at once.",
        ),
        look,
        Step(
            "Review what is refused",
            False,
            settings,
            "Turn a filter on, or to shadow to see first what it would do.",
        ),
    ]
