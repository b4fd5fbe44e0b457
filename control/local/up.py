"""`make up`: the whole cluster on this machine, from nothing or from whatever runs of it.

Adopts a running cluster and starts what is missing of it; replaces a supervisor that was killed. Every step says
what it waits for; a failure ends with the last lines of the log that matters and exit status 1.
"""

import json
import os
import sys
import time
from collections.abc import Iterable

from control.local import configs, demo_zones, parts, ports, postgres, programs, ready, resolver, roster, settle, show
from control.local.layout import HOST, Layout, Unusable, own_directory
from control.local.supervise import Supervisor

OLDEST_PYTHON = (3, 11)
FIRST_NODES = 2
GROUP = "fleet"
"""The program group of the parts that exist once."""


def main() -> int:
    """Bring the cluster up; 0 when all of it is ready."""
    try:
        up(Layout.from_environment())
    except (Unusable, programs.Missing) as error:
        show.failed("make up", error)
        return 1
    except KeyboardInterrupt:
        show.note("interrupted: what was started runs on; `make up` goes on from here, `make down` ends it")
        return 130
    return 0


def up(layout: Layout) -> None:
    """Bring it up. Raises Unusable, or programs.Missing."""
    began = time.monotonic()
    _check_machine()
    supervisor = Supervisor(layout)
    adopted = supervisor.runs()
    if adopted:
        show.note(f"the cluster in {layout.var} runs already: starting what is missing")
    else:
        _clear_the_way(layout, supervisor)
    write_files(layout)
    if not adopted:
        step = time.monotonic()
        supervisor.start()
        show.done("supervisor", step)
    everything = [*parts.foundations(layout), *parts.control_plane(layout)]
    supervisor.write_group(GROUP, everything)
    supervisor.update()
    supervisor.ensure("roster")
    _start(layout, supervisor, parts.foundations(layout))
    settle.create_database(layout)
    settle.migrate(layout)
    _start(layout, supervisor, parts.control_plane(layout))
    settle.accounts(layout)
    settle.bring_nodes(layout, supervisor, FIRST_NODES)
    settle.seed_demo(layout)
    roster.publish(layout)
    _say_where(layout, began)


def write_files(layout: Layout) -> None:
    """Write all configuration, and make the database if there is none."""
    try:
        layout.var.mkdir(mode=0o755, parents=True, exist_ok=True)
        own_directory(layout.run, mode=0o711)
        configs.write_all(layout)
    except PermissionError as error:
        raise Unusable(f"{error.filename}: not ours to write; choose another VAR") from error
    demo_zones.write(layout.var / "zones")
    resolver.choose_upstream(layout, os.environ.get("DNS_UPSTREAM", ""))
    resolver.write(layout)
    if layout.postgres_data.parent != layout.var:
        show.note(f"PostgreSQL's user cannot reach {layout.var}: its data lie in {layout.postgres_data}")
    began = time.monotonic()
    if postgres.initialise(layout):
        show.done("initdb", began)


def _check_machine() -> None:
    if sys.version_info < OLDEST_PYTHON:
        raise Unusable(f"Python {sys.version.split()[0]} is too old: 3.11 or newer is needed (Debian 12, Ubuntu 24.04)")
    if lacking := sorted(set(programs.missing().values())):
        raise programs.Missing(f"not installed: {', '.join(lacking)}; as root: apt-get install {' '.join(lacking)}")


def _clear_the_way(layout: Layout, supervisor: Supervisor) -> None:
    """Before anything is written: end what a lost supervisor left, and see that all ports are free."""
    for text in supervisor.clear():
        show.note(text)
    _check_ports(layout)


def _check_ports(layout: Layout) -> None:
    wanted = [layout.base + offset for offset in range(13)]
    wanted += [place.port(what) for place in layout.nodes() for what in ("smtp", "spool")]
    for port in wanted:
        if holder := ports.busy(port):
            raise Unusable(
                f"port {port} of {HOST} is held by {holder}: end that, or have other ports: VAR=dir PORT_BASE=n make up"
            )


def _start(layout: Layout, supervisor: Supervisor, members: Iterable[parts.Part]) -> None:
    names = [part.name for part in members]
    supervisor.ensure(*names)
    checks = ready.checks(layout)
    for name in names:
        show.wait_for(layout, name, checks[name])


def _say_where(layout: Layout, began: float) -> None:
    seeds = json.loads(layout.demo_json.read_text())
    lines = [
        f"[bold green]The cluster is up[/] after {time.monotonic() - began:.0f} s.",
        f"  panel       [bold]{layout.panel_url}[/]   {seeds['email']} / {seeds['password']}",
        f"  mail        swaks --server {HOST}:{layout.node(1).port('smtp')} --to {seeds['recipient']}",
        f"  delivered   {layout.var / 'mailbox' / 'new'}",
        f"  figures     http://{layout.address('prometheus')}",
        f"  for programs {layout.demo_json}",
        "Next: [bold]make demo[/] (the main job, narrated), make status, make down.",
    ]
    show.console.print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
