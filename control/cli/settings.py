"""`mxctl settings`: read, change, and roll back the settings of a domain."""

import json
from typing import Annotated, Any

import typer

from control.cli import waiting
from control.cli.api import Trouble, call
from control.cli.show import result

app = typer.Typer(help="Settings of a domain (or of “account” and “system”).", no_args_is_help=True)

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
    section, dot, field = path.partition(".")
    if not (section and dot and field):
        raise Trouble(f"{path}: name a field like content.words", 2)
    headers = {"If-Match": str(if_revision)} if if_revision else {}
    patch = {section: {field: _value(value)}}
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
