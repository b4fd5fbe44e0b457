"""The quarantine list: search, reasons, days, pages."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from quart import Blueprint, ResponseReturnValue, request

from control.quarantine import counts, grammar, search
from control.quarantine.counts import Counts, Kind
from control.quarantine.grammar import Wrong
from control.store import domains
from control.web import asked, paging, shell, toast, words

PATH = "/quarantine"
ROWS = 50
ABOUT = {
    Kind.EXACT: "",
    Kind.ROLLED_UP: "Numbers are of all mail kept in these days, deleted mail included.",
    Kind.NEWEST: f"Numbers are of the newest {counts.FEW:,} that fit; there are more.",
}

blueprint = Blueprint("quarantine", __name__)


@dataclass(frozen=True, slots=True)
class Day:
    """The rows of one UTC day."""

    date: date
    items: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Chip:
    """One reason to narrow by; `count` None when it was not counted."""

    text: str
    href: str
    count: int | None
    chosen: bool


@blueprint.get(PATH)
@shell.signed_in
async def listing() -> ResponseReturnValue:
    """The newest kept mail that fits the search; a search that cannot be read is explained, never an error page."""
    typed = asked.read(request.args)
    context: dict[str, Any] = {"nav": "quarantine", "asked": typed, "error": "", "chips": (), "days": []}
    context |= {"fields": grammar.FIELDS, "wrong": None, "found": None, "about": ""}
    context |= {"toast": await toast.of(request.args.get("did", "")), "said": request.args.get("said", "")}
    context["domains"] = [each.name for each in await domains.listing(shell.pool(), shell.viewer())]
    cursor, trail = request.args.get("cursor", ""), request.args.get("trail", "")
    try:
        found = await search.search(shell.pool(), shell.viewer(), query_of(typed, cursor))
    except ValueError as error:
        wrong = _marked(typed.q, error) if isinstance(error, Wrong) else None
        return await shell.page("quarantine.html", 400, **{**context, "error": str(error), "wrong": wrong})
    newer, older = paging.links(PATH, typed.parameters(), cursor, trail, found.next)
    counted = await counts.reasons(shell.pool(), shell.viewer(), query_of(typed))
    context |= {"days": by_day(found.items), "newer": newer, "older": older, "chips": _chips(typed, counted)}
    context |= {"found": found, "about": ABOUT[counted.kind]}
    return await shell.page("quarantine.html", **context)


def by_day(items: Sequence[Any]) -> list[Day]:
    """Rows grouped by the UTC day they were received, in their order."""
    days: list[Day] = []
    for item in items:
        received = words.moment(item.received_at).date()
        if not days or days[-1].date != received:
            days.append(Day(received))
        days[-1].items.append(item)
    return days


def query_of(typed: asked.Asked, cursor: str = "") -> search.Query:
    """A search form as a query. Raises ValueError in words."""
    since, until = typed.span()
    return search.Query(
        domain=typed.domain or None,
        q=typed.q or None,
        sender=typed.sender or None,
        recipient=typed.recipient or None,
        reason=typed.reason or None,
        since=since,
        until=until,
        limit=ROWS,
        cursor=cursor or None,
    )


def _marked(typed: str, wrong: Wrong) -> tuple[str, str, str]:
    """What was typed: before the trouble, the trouble, behind it."""
    return typed[: wrong.start], typed[wrong.start : wrong.end], typed[wrong.end :]


def _chips(typed: asked.Asked, counted: Counts) -> list[Chip]:
    counts = counted.by_reason
    plain = {name: value for name, value in typed.parameters().items() if name != "reason"}
    names = sorted({*counts, *([typed.reason] if typed.reason else [])}, key=lambda name: (-counts.get(name, 0), name))
    if not names:
        return []
    chips = [Chip("All", paging.address(PATH, plain), sum(counts.values()), not typed.reason)]
    for name in names:
        chosen = name == typed.reason
        there = plain if chosen else {**plain, "reason": name}
        chips.append(Chip(words.reason(name), paging.address(PATH, there), counts.get(name, 0), chosen))
    return chips
