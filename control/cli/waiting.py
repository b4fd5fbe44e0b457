"""Waiting until a change is live on every node, and saying how that went."""

from typing import Annotated, Any

import typer

from control.cli.show import result, spread

TIMEOUT_S = 15

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until every node has it (15 s at most).")]


def query(wait: bool) -> dict[str, Any]:
    """The query of a change."""
    return {"wait": "applied", "timeout": TIMEOUT_S} if wait else {}


def report(answer: dict[str, Any], *, waited: bool) -> None:
    """Print where a change is live; exit status 1 when it was waited for and nodes are still awaited."""
    result(answer, spread(answer))
    if waited and not answer["applied"]:
        raise typer.Exit(1)
