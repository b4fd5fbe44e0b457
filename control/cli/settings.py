"""`mxctl settings`: read, change, and roll back the settings of a domain."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from control.cli import waiting
from control.cli.api import Trouble, call
from control.cli.show import result

app = typer.Typer(help="Settings of a domain (or of “account” and “system”).", no_args_is_help=True)

LOOK_S = 0.5
STILL_S = 30.0
"""A bulk change that did not move for so long is waited for no longer."""

Layer = Annotated[str, typer.Argument(help="A domain; or “account”, “system”.")]


@app.command()
def get(
    layer: Layer,
    path: Annotated[str, typer.Argument(help="filter or filter.field; default: all.")] = "",
    resolved: Annotated[bool, typer.Option(help="What is in force, inherited settings included.")] = False,
) -> None:
    """What is set."""
    document = _call("GET", layer, query={"resolved": "true" if resolved else ""})
    revision = document.pop("revision")
    document.pop("hash")
    found = _at(document, path)
    lines = json.dumps(found, indent=2, ensure_ascii=False).splitlines()
    result(found, lines if path else [f"# {layer}, revision {revision}", *lines])


@app.command("set")
def change(
    layer: Layer,
    path: Annotated[str, typer.Argument(help="filter.field, e.g. content.words")],
    value: Annotated[str, typer.Argument(help="JSON, or a plain text; null goes back to what is inherited.")],
    if_revision: Annotated[int, typer.Option(help="Only if the settings are still those of this revision.")] = 0,
    wait: waiting.Wait = True,
) -> None:
    """Change one field; all others stay as they are."""
    headers = {"If-Match": str(if_revision)} if if_revision else {}
    patch = _patch(path, value)
    waiting.report(_call("PATCH", layer, patch, query=waiting.query(wait), headers=headers), waited=wait)


@app.command()
def history(layer: Layer, limit: Annotated[int, typer.Option(min=1, max=1000)] = 20) -> None:
    """Who changed what, newest first."""
    page = _call("GET", layer, rest="/history", query={"limit": limit})
    lines = []
    for each in page["items"]:
        lines.append(f"{each['revision']:>6}  {each['at'][:19]}Z  {each['author']} by {each['door']}: {each['act']}")
        lines += [
            f"        {made['path']}: {_short(made['before'])} → {_short(made['after'])}" for made in each["diff"]
        ]
    result(page, lines or ["no change yet"])


@app.command()
def rollback(
    layer: Layer,
    revision: Annotated[int, typer.Argument(help="A revision of the history.", min=1)],
    wait: waiting.Wait = True,
) -> None:
    """Make the settings what they were at a revision; that is a new revision."""
    body = {"revision": revision}
    answer = _call("POST", layer, body, rest="/rollback", query=waiting.query(wait))
    waiting.report(answer, waited=wait)


@app.command()
def bulk(
    path: Annotated[str, typer.Argument(help="filter.field, e.g. content.mode")],
    value: Annotated[str, typer.Argument(help="JSON, or a plain text; null goes back to what is inherited.")],
    domain: Annotated[list[str] | None, typer.Option(help="A domain; repeat for more.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file that names one domain a line.")] = None,
    account: Annotated[str, typer.Option(help="All domains of this account.")] = "",
    everywhere: Annotated[bool, typer.Option("--all", help="All domains that you may see.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it to its end.")] = True,
) -> None:
    """Change one field of many domains, behind everybody else's changes."""
    domains = [*(domain or []), *(_lines(file) if file else [])]
    body = {"patch": _patch(path, value), "domains": domains, "account": account, "all": everywhere}
    answer = call("POST", "/bulk/settings", body, operator=True)
    _follow(answer, wait=wait)


@app.command("bulk-status")
def bulk_status(
    bulk_id: Annotated[str, typer.Argument(help="What `settings bulk` printed.")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it to its end.")] = False,
) -> None:
    """How far a bulk change is."""
    _follow(call("GET", f"/bulk/settings/{bulk_id}", operator=True), wait=wait)


def _follow(progress: dict[str, Any], *, wait: bool) -> None:
    """Print how far it is; exit status 1 when domains failed, or it was waited for and nodes are still awaited."""
    since = time.monotonic()
    while wait and not progress["applied"] and time.monotonic() - since < STILL_S:
        time.sleep(LOOK_S)
        before, progress = progress, call("GET", f"/bulk/settings/{progress['id']}", operator=True)
        since = since if before == progress else time.monotonic()
    result(progress, _progress(progress))
    if progress["failed"] or (wait and not progress["applied"]):
        raise typer.Exit(1)


def _progress(at: dict[str, Any]) -> list[str]:
    counts = f"{at['changed']} changed, {at['same']} had it already, {at['failed']} failed, {at['waiting']} to go"
    awaited = f", awaiting {', '.join(at['awaited'])}" if at["awaited"] else ", live on every node" * at["applied"]
    lines = [f"Bulk change {at['id']} ({at['state']}): of {at['total']} domains {counts}{awaited}"]
    return lines + [f"  {each['domain']}: {each['reason']}" for each in at["failures"]]


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"{file}: {error}", 2) from error


def _patch(path: str, value: str) -> dict[str, Any]:
    section, dot, field = path.partition(".")
    if not (section and dot and field):
        raise Trouble(f"{path}: name a field like content.words", 2)
    return {section: {field: _value(value)}}


def _call(method: str, layer: str, body: Any = None, *, rest: str = "", **more: Any) -> dict[str, Any]:
    path = f"/{layer}" if layer in ("account", "system") else f"/domains/{layer}"
    answer: dict[str, Any] = call(method, f"{path}/settings{rest}", body, operator=layer == "system", **more)
    return answer


def _at(document: dict[str, Any], path: str) -> Any:
    section, dot, field = path.partition(".")
    found = document.get(section, {}) if section else document
    return found.get(field) if dot else found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _short(value: Any) -> str:
    text = "–" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"
