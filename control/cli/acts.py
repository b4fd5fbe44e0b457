"""`mxctl quarantine delete|block|restore|undo|history|bin|act|follow|export`: acts on kept mail, one or many."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from control.cli.api import Trouble, ask, call
from control.cli.quarantine import Id, app
from control.cli.show import escaped, result, table

__all__ = ["app"]
"""The commands join those that find and show mail."""

LOOK_EVERY_S = 0.5
FORMS = ("mbox", "csv", "zip")

Act = Annotated[str, typer.Argument(help="The act's id.")]
Query = Annotated[str, typer.Option("--query", "-q", help="A search; all that it finds is meant.")]
Domain = Annotated[str, typer.Option(help="Only this domain's mail.")]
Items = Annotated[list[str] | None, typer.Argument(help="Ids of mails, instead of a search.")]


@app.command()
def delete(item: Id) -> None:
    """Put a mail into the bin; it can be restored for 7 days."""
    made = call("POST", f"/quarantine/{item}/delete")
    result(made, f"in the bin; mxctl quarantine undo {made['act']} takes it back")


@app.command()
def block(item: Id, domain: Annotated[bool, typer.Option(help="Block the sender's whole domain.")] = False) -> None:
    """Block the sender and put the mail into the bin."""
    made = call("POST", f"/quarantine/{item}/block", {"what": "domain" if domain else "sender"})
    result(made, f"blocked, and in the bin; mxctl quarantine undo {made['act']} takes both back")


@app.command()
def restore(item: Id) -> None:
    """Take a mail out of the bin."""
    call("POST", f"/quarantine/{item}/restore")
    result({"item": item}, "restored")


@app.command()
def undo(act: Act) -> None:
    """Take an act on one mail back."""
    call("POST", f"/quarantine/acts/{act}/undo")
    result({"act": act}, "taken back")


@app.command()
def history(item: Id) -> None:
    """Who viewed, released, deleted a mail."""
    found = call("GET", f"/quarantine/{item}/history")
    rows = ((each["at"][:19], each["author"], each["door"], each["act"]) for each in found["events"])
    result(found, table(("at", "who", "door", "what"), rows))


@app.command("bin")
def binned(cursor: Annotated[str, typer.Option(help="`next` of the page before.")] = "") -> None:
    """What lies in the bin."""
    found = call("GET", "/quarantine/bin", query={"cursor": cursor})
    rows = ((each["received_at"][:19], each["sender"], each["subject"], each["id"]) for each in found["items"])
    result(found, table(("received", "sender", "subject", "id"), rows))


@app.command("act")
def act_on_many(
    act: Annotated[str, typer.Argument(help="release, delete or restore.")],
    items: Items = None,
    query: Query = "",
    domain: Domain = "",
    everything: Annotated[bool, typer.Option("--all", help="All mail, when no search is given.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only count.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it to its end.")] = True,
) -> None:
    """Act on all that a search finds, or on named mails."""
    body = {"act": act, "dry_run": dry_run, **_meant(items, query, domain, everything=everything)}
    made = call("POST", "/quarantine/actions", body)
    if dry_run:
        result(made, f"{'' if made['exact'] else 'more than '}{made['count']} mails")
        return
    _tell(_followed(made) if wait else made)


@app.command()
def follow(
    act: Act,
    do: Annotated[str, typer.Option(help="cancel, resume or undo it first.")] = "",
) -> None:
    """Follow an act on many mails to its end."""
    if do not in ("", "cancel", "resume", "undo"):
        raise Trouble("--do is cancel, resume or undo", 2)
    path = f"/quarantine/actions/{act}"
    _tell(_followed(call("POST", f"{path}/{do}") if do else call("GET", path)))


@app.command()
def export(
    output: Annotated[Path, typer.Option("-o", help="File; of a zip each part after the first gets its number.")],
    items: Items = None,
    query: Query = "",
    domain: Domain = "",
    everything: Annotated[bool, typer.Option("--all", help="All mail, when no search is given.")] = False,
    form: Annotated[str, typer.Option(help="mbox, csv or zip.")] = "mbox",
) -> None:
    """Write what a search finds into a file."""
    if form not in FORMS:
        raise Trouble("--form is mbox, csv or zip", 2)
    made = _followed(call("POST", "/quarantine/exports", _meant(items, query, domain, everything=everything)))
    path = f"/quarantine/exports/{made['id']}/{form}"
    first = ask("GET", path)
    output.write_bytes(first.content)
    for part in range(2, int(first.headers.get("X-Parts", "1")) + 1):
        rest = output.with_name(f"{output.stem}-{part}{output.suffix}")
        rest.write_bytes(ask("GET", path, query={"part": part}).content)
    result(made, f"{made['total']} mails written to {escaped(str(output))}")


def _meant(items: list[str] | None, query: str, domain: str, *, everything: bool) -> dict[str, Any]:
    if items:
        return {"items": items}
    if not (query or domain or everything):
        raise Trouble("name mails, a search (--query), a domain, or --all", 2)
    return {"query": {"q": query, "domain": domain}}


def _followed(made: dict[str, Any]) -> dict[str, Any]:
    while made["state"] in ("listing", "running", "undoing"):
        time.sleep(LOOK_EVERY_S)
        made = call("GET", f"/quarantine/actions/{made['id']}")
    return made


def _tell(made: dict[str, Any]) -> None:
    names = ("done", "same", "failed", "cancelled", "undone", "waiting")
    counts = ", ".join(f"{made[name]} {name}" for name in names if made[name]) or "no mails"
    lines = [f"{made['id']} {made['state']}: {counts}"]
    lines += [f"  {each['item']}: {escaped(each['reason'])}" for each in made["failures"]]
    result(made, lines)
    if made["failed"] or made["state"] == "failed":
        raise typer.Exit(1)
