"""Keeps VAR/demo.json true: who runs under which pid, which nodes there are. Run by supervisord as `roster`.

supervisord tells it of every start and of every group that comes or goes (its event listener protocol); then the
file is written anew and renamed into place, so that a reader never sees half of it.
"""

import json
import os
import sys
from collections.abc import Container
from pathlib import Path
from typing import Any

from supervisor import childutils

from control.local import arguments, parts
from control.local.layout import HOST, Layout, Unusable
from control.local.supervise import Supervisor

HOUSEKEEPING = ("roster", "caretaker")
"""Programs of the launcher itself: they run and are restarted like all, but are no part of what is shown."""


def main() -> None:
    """Answer supervisord's events until it ends us."""
    layout = arguments.layout(__doc__)
    while True:
        childutils.listener.wait(sys.stdin, sys.stdout)
        try:
            publish(layout)
        except (OSError, Unusable) as error:
            print(f"demo.json not written: {error}", file=sys.stderr, flush=True)
        childutils.listener.ok(sys.stdout)


def seeds_file(layout: Layout) -> Path:
    """What bootstrap and seeding found out: addresses of people, tokens. Kept apart, for its owner only."""
    return layout.var / "seeds.json"


def publish(layout: Layout) -> bool:
    """Write demo.json; False when there is nothing to tell yet."""
    try:
        seeds = json.loads(seeds_file(layout).read_text())
    except FileNotFoundError:
        return False
    shown = facts(layout, seeds)
    shown["pids"] = _last_pids(layout, shown["pids"]) | {name: pid for name, pid in shown["pids"].items() if pid}
    draft = layout.demo_json.with_name(f"demo.json.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(shown, file, indent=1)
        file.write("\n")
    os.replace(draft, layout.demo_json)
    return True


def facts(layout: Layout, seeds: dict[str, Any]) -> dict[str, Any]:
    """What demo.json says; a pid is 0 while its process is being restarted. Raises Unusable without supervisord."""
    supervisor, nodes = Supervisor(layout), layout.nodes()
    running = {name: info["pid"] for name, info in supervisor.processes().items() if name not in HOUSEKEEPING}
    return {
        "panel": layout.panel_url,
        **seeds,
        "smtp": [[HOST, place.port("smtp")] for place in nodes],
        "metrics": parts.metric_urls(layout, nodes),
        "prometheus": f"http://{layout.address('prometheus')}",
        "nexthop": [HOST, layout.port("mailbox")],
        "nexthop_maildir": str(layout.var / "mailbox"),
        "resolver": [HOST, layout.port("resolver")],
        "zones": str(layout.var / "zones"),
        "pids": dict(sorted(running.items())) | {"supervisor": supervisor.pid},
    }


def _last_pids(layout: Layout, names: Container[str]) -> dict[str, int]:
    """The pids told before: what is just being restarted keeps its old one until it has a new one."""
    try:
        told: dict[str, int] = json.loads(layout.demo_json.read_text())["pids"]
    except (FileNotFoundError, KeyError, ValueError):
        return {}
    return {name: pid for name, pid in told.items() if name in names}


if __name__ == "__main__":
    main()
