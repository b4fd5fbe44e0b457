"""`make status`: every program of the cluster on one screen; exit status 1 when not all of it is ready."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

from control.local import ready, show
from control.local.layout import Layout, Unusable
from control.local.supervise import Supervisor

_COLUMNS = {"program": 13, "state": 8, "pid": 6, "up": 4, "MB": 3, "": 10}
"""Columns with their least width: what a part lacks gets what is left of the line."""


def main() -> int:
    """Print the table."""
    try:
        layout = Layout.from_environment()
    except Unusable as error:
        show.failed("make status", error)
        return 1
    supervisor = Supervisor(layout)
    if not supervisor.runs():
        show.note(f"no cluster runs in {layout.var}: `make up` starts one")
        return 1
    processes, lacks = supervisor.processes(), look(layout)
    show.console.print(table(processes, lacks))
    show.console.print(f"panel {layout.panel_url}   logs {layout.var / 'log'}   supervisor pid {supervisor.pid}")
    return 0 if not any(lacks.values()) else 1


def look(layout: Layout) -> dict[str, str]:
    """What each part lacks, "" when it is ready; all are asked at once."""
    checks = ready.checks(layout)
    for place in layout.nodes():
        checks |= ready.node_checks(place)
    with ThreadPoolExecutor(len(checks)) as pool:
        return dict(zip(checks, pool.map(lambda check: check(), checks.values()), strict=True))


def table(processes: dict[str, dict[str, Any]], lacks: dict[str, str]) -> Table:
    """One line a program: state, pid, how long it runs, its memory, and what it lacks."""
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for column, width in _COLUMNS.items():
        side: Literal["right", "left"] = "right" if column in ("pid", "up", "MB") else "left"
        shown.add_column(column, justify=side, no_wrap=True, overflow="ellipsis", min_width=width)
    for name, info in sorted(processes.items()):
        lack, runs = lacks.get(name, ""), info["statename"] in ("RUNNING", "STARTING")
        state = (
            "[green]ready[/]"
            if runs and not lack
            else "[yellow]starting[/]"
            if runs
            else f"[red]{info['statename']}[/]"
        )
        up = _span(time.time() - info["start"]) if runs else ""
        shown.add_row(name, state, str(info["pid"] or ""), up, _megabytes(info["pid"]), escape(lack[:70]))
    return shown


def _span(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _megabytes(pid: int) -> str:
    """Memory that is the process's own (RssAnon; proc(5))."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return ""
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
    return f"{sum(kilobytes) / 1024:.0f}"


if __name__ == "__main__":
    sys.exit(main())
