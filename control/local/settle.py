"""What stands between running programs and a cluster that can be used: schema, accounts, nodes, demo data.

Each step is done once and harmless again.
"""

import asyncio
import json
import subprocess
import sys
import time
from contextlib import suppress

import asyncpg

from control.ca import write_private
from control.local import api, configs, node, seed, show
from control.local.layout import ROOT, Layout, Unusable
from control.local.roster import seeds_file
from control.local.supervise import Supervisor

STEP_WITHIN_S = 120.0


def create_database(layout: Layout) -> None:
    """Have our database in the fresh server."""

    async def create() -> None:
        connection = await asyncpg.connect(configs.dsn(layout), database="postgres", timeout=STEP_WITHIN_S)
        try:
            await connection.execute(f"CREATE DATABASE {configs.DATABASE}", timeout=STEP_WITHIN_S)
        finally:
            await connection.close(timeout=STEP_WITHIN_S)

    with suppress(asyncpg.DuplicateDatabaseError):
        asyncio.run(create())


def migrate(layout: Layout) -> None:
    """Bring the database to this checkout's schema. Raises Unusable with the migration's words."""
    began = time.monotonic()
    _run("migrate", ["-m", "control", "migrate", "--config", str(layout.control_config)])
    show.done("schema", began)


def accounts(layout: Layout) -> None:
    """Have the demo's account, its owner and the operator's token; remember them in the seeds file."""
    made = json.loads(_run("bootstrap", ["-m", "control.bootstrap", "--config", str(layout.control_config)]))
    try:
        known = json.loads(seeds_file(layout).read_text())
    except FileNotFoundError:
        known = {"domain": seed.DOMAIN, "recipient": f"you@{seed.DOMAIN}"}
    write_private(seeds_file(layout), json.dumps(known | made, indent=1).encode())


def bring_nodes(layout: Layout, supervisor: Supervisor, first: int) -> None:
    """Have the first nodes joined, and every joined node running and ready."""
    operator = api.operator(layout)
    for number in range(1, first + 1):
        place = layout.node(number)
        if not place.config.exists():
            began = time.monotonic()
            node.join(layout, place, operator)
            show.done(f"{place.name} joined", began)
    for place in layout.nodes():
        node.start(layout, supervisor, place)


def seed_demo(layout: Layout) -> None:
    """Fill the demo's domains, once."""
    seed.run(layout, api.operator(layout), api.seeds(layout)["account"])


def _run(what: str, arguments: list[str]) -> str:
    """Run one of our programs to its end and return what it printed. Raises Unusable with its last words."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=STEP_WITHIN_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise Unusable(f"{what} did not end within {STEP_WITHIN_S:.0f} s") from error
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-show.TAIL_LINES :])
        raise Unusable(f"{what} ended with {done.returncode}:\n{last}")
    return done.stdout
