"""`mxctl quarantine` and `mxctl trace`: find refused mail, read why, have it delivered; follow any mail by its id."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from control.cli.api import ask, call
from control.cli.show import OUTPUT, console, escaped, result, table

app = typer.Typer(help="Refused and held mail.", no_args_is_help=True)

JOB_WITHIN_S = 60.0
LOOK_EVERY_S = 0.2

Id = Annotated[str, typer.Argument(help="The item's id.")]


@app.command()
def search(
    words: Annotated[list[str] | None, typer.Argument(help="Words of subject, addresses or text.")] = None,
    domain: Annotated[str, typer.Option()] = "",
    sender: Annotated[str, typer.Option()] = "",
    recipient: Annotated[str, typer.Option()] = "",
    reason: Annotated[str, typer.Option(help="A filter's name, score, next_hop.")] = "",
    since: Annotated[str, typer.Option(help="RFC 3339, e.g. 2026-11-24T00:00:00Z, or a day.")] = "",
    until: Annotated[str, typer.Option()] = "",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    cursor: Annotated[str, typer.Option(help="`next` of the page before.")] = "",
) -> None:
    """Kept mail, newest first."""
    asked = {"domain": domain, "q": " ".join(words or ()), "sender": sender, "recipient": recipient, "reason": reason}
    page = call("GET", "/quarantine", query={**asked, "since": since, "until": until, "limit": limit, "cursor": cursor})
    rows = (
        (
            each["received_at"][:19],
            each["sender"] or "<>",
            each["recipient"],
            each["subject"],
            each["reason"],
            each["id"],
        )
        for each in page["items"]
    )
    result(page, table(("received", "sender", "recipient", "subject", "reason", "id"), rows))
    if page["next"] and not OUTPUT.json:
        console.print(f"more: --cursor {page['next']}", markup=False, soft_wrap=True)


@app.command()
def show(item: Id) -> None:
    """One mail with every verdict."""
    found = call("GET", f"/quarantine/{item}")
    lines = [f"{name}: {escaped(found.get(name))}" for name in ("id", "received_at", "sender", "recipient", "subject")]
    lines += [f"{found['status']}, by {found['reason']}: {escaped(found.get('reason_text', ''))}"]
    for each in found.get("verdicts", ()):
        mark = "*" if each.get("acted") else " "
        lines.append(
            f" {mark} {each['filter']:<16} {each['mode']:<7} {each['action']:<7} {escaped(each.get('reason', ''))}"
        )
    result(found, lines)


@app.command()
def release(
    item: Id,
    allow_sender: Annotated[bool, typer.Option(help="Let this sender's mail through from now on.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the delivery.")] = True,
) -> None:
    """Deliver it past the filters; once, however often it is asked."""
    job = call("POST", f"/quarantine/{item}/release", {"allow_sender": allow_sender})["job"]
    state = call("GET", f"/jobs/{job}")
    deadline = time.monotonic() + JOB_WITHIN_S
    while wait and state["state"] in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
        state = call("GET", f"/jobs/{job}")
    result({"job": job, **state}, f"{state['state']}: {escaped(state['outcome'])}")
    if wait and state["state"] != "done":
        raise typer.Exit(1)


@app.command()
def raw(
    item: Id, output: Annotated[Path | None, typer.Option("-o", help="File to write; default: standard output.")] = None
) -> None:
    """The exact bytes."""
    content = ask("GET", f"/quarantine/{item}/raw").content
    if output:
        output.write_bytes(content)
    else:
        sys.stdout.buffer.write(content)


def trace(message: Annotated[str, typer.Argument(help="The id in our reply or in the Received field.")]) -> None:
    """What became of a mail, recipient by recipient, on whichever node it came in."""
    found = call("GET", f"/messages/{message.partition('.')[0]}")
    result(found, _traced(found))


def _traced(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['received_at']}  {found['sender'] or '<>'}  “{escaped(found['subject'])}”  at {found['node']}"]
    for each in found["recipients"]:
        why = escaped(" ".join(filter(None, (each.get("reason"), each.get("text")))))
        lines.append(f"  {each['recipient']}: {each['outcome']} {why}")
        lines += [f"      {json.dumps(judged, ensure_ascii=False)[:200]}" for judged in each.get("verdicts", ())]
    return lines
