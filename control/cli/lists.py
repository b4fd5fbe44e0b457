"""`mxctl list`: allow and deny entries."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from control.cli import waiting
from control.cli.api import Trouble, call
from control.cli.show import result, table

app = typer.Typer(help="Allow and deny entries of a domain.", no_args_is_help=True)

Domain = Annotated[str, typer.Argument(help="The domain.")]


class Kind(StrEnum):
    """What an entry does."""

    ALLOW = "allow"
    DENY = "deny"


@app.command()
def show(domain: Domain) -> None:
    """The entries."""
    items = _entries(domain)
    rows = (
        (each["match"], each["kind"], each["expires"] or "no end", each["authenticated_only"], each["note"], each["id"])
        for each in items
    )
    columns = ("sender", "kind", "until", "authenticated only", "note", "id")
    result({"items": items}, table(columns, rows))


@app.command()
def add(
    domain: Domain,
    kind: Kind,
    match: Annotated[str, typer.Argument(help="An address, a domain, or a network.")],
    expires: Annotated[str, typer.Option(help="When it ends, e.g. 2026-12-31T00:00:00Z.")] = "",
    authenticated_only: Annotated[bool, typer.Option(help="Only for mail that passed SPF or DKIM.")] = False,
    note: Annotated[str, typer.Option()] = "",
    wait: waiting.Wait = True,
) -> None:
    """Add an entry."""
    body = {"kind": kind.value, "match": match, "authenticated_only": authenticated_only, "note": note}
    body |= {"expires": expires} if expires else {}
    answer = call("POST", f"/domains/{domain}/lists", body, query=waiting.query(wait))
    waiting.report(answer, waited=wait)


@app.command()
def remove(
    domain: Domain, entry: Annotated[str, typer.Argument(help="Its id, or its sender.")], wait: waiting.Wait = True
) -> None:
    """Remove an entry."""
    found = next((each["id"] for each in _entries(domain) if entry in (each["id"], each["match"])), None)
    if found is None:
        raise Trouble(f"{domain} has no entry “{entry}”", 4)
    waiting.report(call("DELETE", f"/domains/{domain}/lists/{found}", query=waiting.query(wait)), waited=wait)


def _entries(domain: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = ""
    while cursor is not None:
        page = call("GET", f"/domains/{domain}/lists", query={"limit": 1000, "cursor": cursor})
        items, cursor = items + page["items"], page["next"]
    return items
