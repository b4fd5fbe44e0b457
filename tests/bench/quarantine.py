"""The quarantine at full size: `python -m tests.bench.quarantine [--rows 10000000] [--bodies 1000000] [--write]`.

Fills a private PostgreSQL, then asks through the API of a real panel process, as a user does. BENCH_DIR names a
directory to build in and, when it was built before, to go on with; else a temporary one is used. It is removed at the
end unless KEEP=1. Plans are kept in `plans.txt` there, or beside the checkout's var. `--write` puts the tables into
docs/benchmarks.md.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from control.quarantine import packs
from tests.bench import quarantine_queries, quarantine_size, quarantine_store
from tests.bench.quarantine_store import DAYS, Cost, Plan, Store

SHARED = Path(os.environ.get("SHARED_DIR", Path(__file__).resolve().parents[3] / "shared")) / "corpus" / "spam.tar.xz"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- bench-quarantine -->", "<!-- /bench-quarantine -->"


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--bodies", type=int, default=0, help="bodies in the index; default: a tenth of the rows")
    parser.add_argument("--at-once", type=int, default=2, help="days that are filled at once")
    parser.add_argument("--requests", type=int, default=200, help="of each kind")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    given = parser.parse_args()
    if not SHARED.exists():
        sys.exit("bench-quarantine: ../shared/corpus is not beside this checkout")
    with _directory() as directory:
        text = "\n".join(_bench(directory, given))
    print(text)
    if given.write:
        page = DOCS.read_text()
        head, _, rest = page.partition(BEGIN)
        DOCS.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


def _bench(directory: Path, given: argparse.Namespace) -> Iterator[str]:
    server = Store(directory)
    server.start()
    try:
        plan = Plan(server.dsn(), SHARED, given.rows)
        asyncio.run(quarantine_store.prepare(plan))
        _fill(plan, given.at_once)
        yield f"{given.rows:,} rows in {quarantine_store.DOMAINS:,} domains, {DAYS} days."
        yield f"Load average at the start {os.getloadavg()[0]:.1f}, on {os.cpu_count()} cores.\n"
        yield from _stored(plan, directory, given, server.pid)
        yield from quarantine_size.table(plan, directory)
        yield from quarantine_queries.table(plan, directory, given.requests)
    finally:
        server.stop()


def _fill(plan: Plan, at_once: int) -> None:
    begun = time.monotonic()
    days = [packs.today() - timedelta(days=back) for back in range(1, DAYS)]
    for done, day in enumerate(quarantine_store.copy_days(plan, days, at_once), 1):
        print(f"{time.monotonic() - begun:6.0f} s  {done} of {len(days)} days, {day}", file=sys.stderr, flush=True)


def _stored(plan: Plan, directory: Path, given: argparse.Namespace, postgres: int) -> Iterator[str]:
    """What storing the newest day and reading its bodies cost; nothing where an earlier run has done it."""
    quarantine_size.train(plan, directory)
    done = asyncio.run(quarantine_store.stored(plan))
    if done < plan.a_day:
        cost = asyncio.run(quarantine_store.store(plan, directory, plan.a_day - done, postgres))
        yield from _cost("stored by the receiver's ingest", cost)
    most = given.bodies or plan.rows // 10
    indexed = asyncio.run(quarantine_store.indexed(plan))
    if indexed < most:
        cost = asyncio.run(quarantine_store.follow(plan, directory, most - indexed, postgres))
        yield from _cost("bodies put into the index", cost)


def _cost(what: str, cost: Cost) -> Iterator[str]:
    yield f"- {cost.mails:,} mails {what}: {cost.mails / cost.seconds:,.0f} a second;"
    yield f"  CPU µs a mail: {cost.client_us:,.0f} client, {cost.postgres_us:,.0f} PostgreSQL."


@contextmanager
def _directory() -> Iterator[Path]:
    """Where to build; short, for other users' PostgreSQL must be able to go there."""
    named = os.environ.get("BENCH_DIR")
    path = Path(named) if named else Path(tempfile.mkdtemp(prefix="mxfb", dir="/tmp"))
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)
    try:
        yield path
    finally:
        if os.environ.get("KEEP") != "1":
            shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
