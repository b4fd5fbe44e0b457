"""`python -m tests.drill`: breaks a cluster under load, fault by fault, and prints what became of every mail.

Against its own cluster, or with `--demo PATH` against one that runs. Resumable: a fault whose row stands in the results
file for this tree is not tried again. Exit status 1 when a promise was broken.
"""

import argparse
import asyncio
import json
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.cluster import ROOT, free_port_base, launch
from tests.drill import faults, network
from tests.drill.load import Load, Mail, Plan
from tests.drill.verdict import Verdict, judge
from tests.e2e.fleet import Fleet, header_of

CALM_S = 2.0
"""Load before the fault begins, and after it was healed."""
STEADY_WITHIN_S = 90.0
SHORT = ("kill mx1.worker1", "kill mx1.spool", "kill receiver", "kill postgres", "freeze receiver", "everything killed")
PACKAGES = ("monitoring", "syncd", "mx", "control")

console = Console(width=150)


def main() -> int:
    """Run the drill; 0 when every promise held."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    parser.add_argument("--demo", type=Path, help="demo.json of a running cluster; default: one of its own")
    parser.add_argument("--only", nargs="*", default=[], help="names of faults, or parts of them")
    parser.add_argument("--short", action="store_true", help="a few faults, for a build machine")
    parser.add_argument("--rate", type=float, default=25.0, help="mails a second")
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--results", type=Path, default=Path("var-drill"), help="directory of logs and results")
    parser.add_argument("--netns", action="store_true", help="in a network namespace, with its links cut too (root)")
    given = parser.parse_args()
    if given.netns:
        network.enter()
    given.results.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        demo = given.demo or stack.enter_context(own_cluster())
        fleet = Fleet(demo)
        stack.callback(fleet.close)
        rows = asyncio.run(_drill(fleet, given))
    console.print(_table(rows))
    broken = [row["fault"] for row in rows if not row["clean"]]
    console.print(f"{len(rows)} faults, {len(broken)} broke a promise" + (f": {', '.join(broken)}" if broken else ""))
    return 1 if broken else 0


@contextmanager
def own_cluster() -> Iterator[Path]:
    """A cluster for the drill alone."""
    with tempfile.TemporaryDirectory(prefix="mxd", dir="/tmp", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        environment = {"VAR": directory, "PORT_BASE": str(free_port_base())}
        try:
            up = launch("up", environment, 300)
            if up.returncode:
                raise SystemExit(f"{up.stdout}\n{up.stderr}")
            yield Path(directory) / "demo.json"
        finally:
            launch("down", environment, 120, "--clean")


async def _drill(fleet: Fleet, given: argparse.Namespace) -> list[dict[str, Any]]:
    tree, path = tree_hash(), given.results / "drill.jsonl"
    done = [row for row in _read(path) if row["tree"] == tree and row["seed"] == given.seed]
    wanted = [fault for fault in faults.catalogue(fleet) if _is_wanted(fault.name, given)]
    rows = []
    for number, fault in enumerate(wanted):
        row = next((row for row in done if row["fault"] == fault.name), None)
        if row is None:
            row = await _one(fleet, fault, given, given.seed + number) | {"tree": tree, "seed": given.seed}
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        _say(row)
        rows.append(row)
    return rows


async def _one(fleet: Fleet, fault: faults.Fault, given: argparse.Namespace, seed: int) -> dict[str, Any]:
    random.seed(seed)
    run = "dr" + secrets.token_hex(4)
    word, demo = f"zd{run}", fleet.demo
    await asyncio.to_thread(fleet.settings, demo["domain"], {"content": {"mode": "on", "words": [word]}})
    plan = Plan(run, word, demo["recipient"], given.rate, cut_share=0.02)
    log = given.results / f"{run}.jsonl"
    load = Load(plan, lambda: [(host, port) for host, port in fleet.demo["smtp"]], log, seed)
    sending = asyncio.create_task(load.run())
    await asyncio.sleep(CALM_S)
    await asyncio.to_thread(_break, fleet, fault)
    healed = time.monotonic()
    await asyncio.sleep(CALM_S)
    load.stop()
    await sending
    verdict = await _verdict(fleet, run, list(load.mails.values()))
    steady_s = round(time.monotonic() - healed, 1)
    drift = await asyncio.to_thread(_drift, fleet)
    counts = {name: len(value) if isinstance(value, list) else value for name, value in asdict(verdict).items()}
    named = {name: value for name, value in asdict(verdict).items() if isinstance(value, list) and value}
    return {
        "fault": fault.name,
        **counts,
        "steady_s": steady_s,
        "drift": drift,
        "clean": verdict.is_clean and drift == 0,
        "named": named,
        "log": log.name,
    }


def _break(fleet: Fleet, fault: faults.Fault) -> None:
    with fault.of(fleet):
        time.sleep(fault.lasts_s)


async def _verdict(fleet: Fleet, run: str, mails: list[Mail]) -> Verdict:
    """Judged again until nothing is missing and nothing is on its way, or the time is up: what is lost stays lost."""
    until = time.monotonic() + STEADY_WITHIN_S
    while True:
        is_over = await asyncio.to_thread(_is_at_rest, fleet) or time.monotonic() > until
        found = judge(mails, *await asyncio.to_thread(_arrived, fleet, run))
        if is_over and (not found.lost or time.monotonic() > until):
            return found
        await asyncio.sleep(0.5)


def _is_at_rest(fleet: Fleet) -> bool:
    """Whether no spool has anything left to ship or to take back."""
    spools = [name for name in fleet.demo["metrics"] if name.endswith(".spool")]
    try:
        return all(fleet.metric(name, "syncd_spool_records") == 0 for name in spools)
    except Exception:  # noqa: BLE001 - whatever httpx says of one that does not answer yet
        return False


def _arrived(fleet: Fleet, run: str) -> tuple[dict[str, list[bytes]], dict[str, list[str]]]:
    boxes: dict[str, list[bytes]] = {}
    for mail in fleet.delivered():
        if f"X-Drill: {run}-".encode() in mail:
            boxes.setdefault(header_of(mail, "X-Drill"), []).append(mail)
    kept: dict[str, list[str]] = {}
    for item in fleet.quarantined(q=run):
        kept.setdefault(str(item["subject"]).rsplit(" ", 1)[1], []).append(str(item["id"]))
    return boxes, kept


def _drift(fleet: Fleet) -> float:
    """The nodes' own sum: accepted recipients without an outcome. The product's counters have to agree with the log."""
    workers = [name for name in fleet.demo["metrics"] if ".worker" in name]
    return sum(abs(fleet.metric(name, "mx_ledger_drift")) for name in workers)


def _is_wanted(name: str, given: argparse.Namespace) -> bool:
    if given.short:
        return name in SHORT
    return not given.only or any(part in name for part in given.only)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tree_hash() -> str:
    """Names the files of the four packages as they are now, committed or not."""
    listed = subprocess.run(
        ["git", "ls-files", "-s", *PACKAGES], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    changed = subprocess.run(["git", "diff", "HEAD", *PACKAGES], cwd=ROOT, capture_output=True, check=True).stdout
    hashed = subprocess.run(
        ["git", "hash-object", "--stdin"], input=listed.encode() + changed, capture_output=True, check=True
    )
    return hashed.stdout.decode().strip()[:12]


_COLUMNS = ("sent", "delivered", "kept", "deferred", "cut", "repeats", "lost", "duplicated", "falsely_refused")


def _say(row: dict[str, Any]) -> None:
    mark = "[green]✓[/]" if row["clean"] else "[red]✗[/]"
    counts = "  ".join(f"{name} {row[name]}" for name in _COLUMNS)
    console.print(f"{mark} {row['fault']}: {counts}  steady after {row['steady_s']} s", highlight=False)
    if row["named"]:
        console.print(f"   {json.dumps(row['named'])[:400]}", highlight=False)


def _table(rows: list[dict[str, Any]]) -> Table:
    shown = Table(box=None)
    for column in ("fault", *_COLUMNS, "steady s"):
        shown.add_column(column.replace("_", " "), justify="left" if column == "fault" else "right")
    for row in rows:
        shown.add_row(row["fault"], *(str(row[name]) for name in _COLUMNS), str(row["steady_s"]))
    return shown


if __name__ == "__main__":
    sys.exit(main())
