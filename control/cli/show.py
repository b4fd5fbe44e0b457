"""What mxctl prints: tables and sentences for people, or the API's JSON."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from control.cli.api import Trouble

console = Console(highlight=False)


@dataclass
class Output:
    """How this run prints."""

    json: bool = False


OUTPUT = Output()


def result(answer: Any, text: "Table | str | Iterable[str]") -> None:
    """Print an answer: as JSON when that was asked for, else as `text`."""
    if OUTPUT.json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
    elif isinstance(text, Table):
        console.print(text)
    else:
        for line in [text] if isinstance(text, str) else text:
            console.print(line, markup=False, soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A plain table; cells are text of others and never markup."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(escaped(cell) for cell in row))
    return made


def escaped(cell: Any) -> str:
    """A cell as text without control characters, which a sender could have put there for our terminal."""
    text = "–" if cell is None else "yes" if cell is True else "no" if cell is False else str(cell)
    return "".join(each if each.isprintable() else "�" for each in text).replace("[", "\\[")


def complain(trouble: Trouble) -> None:
    """Say on standard error why it was not done."""
    if OUTPUT.json and trouble.body is not None:
        print(json.dumps(trouble.body, ensure_ascii=False, indent=2), file=sys.stderr)
    else:
        print(f"mxctl: {trouble}", file=sys.stderr)


def spread(answer: dict[str, Any]) -> list[str]:
    """Where a change is live, in one sentence."""
    nodes = answer["nodes"]
    live = [name for name, node in nodes.items() if node["applied"]]
    slowest = max((node["ms"] for node in nodes.values() if node["ms"] is not None), default=None)
    time = f", {slowest:.0f} ms" if slowest is not None and answer["applied"] else ""
    awaited = [_awaited(name, node) for name, node in nodes.items() if not node["applied"]]
    more = f"; awaiting {', '.join(awaited)}" if awaited else ""
    return [f"Live on {len(live)} of {len(nodes)} nodes, revision {answer['revision']}{time}{more}"]


def _awaited(name: str, node: dict[str, Any]) -> str:
    if node["age_s"] is None:
        return f"{name} (no report from it)"
    return f"{name} ({node['state']}, revision {node['revision']}, last report {node['age_s']:.0f} s ago)"
