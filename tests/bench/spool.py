"""`python -m tests.bench.spool`: what a kept mail costs each leg of the spool and adds to a reply.

Real processes over real TLS on this machine's disk: a worker's client (this process), the spools of two nodes, a
receiver whose store is a file; the quarantine's own rate is measured by `tests.bench.quarantine`.
"""

import argparse
import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from syncd.spool.client import NotSecured, SpoolClient
from tests.bench.tree import cpu_s
from tests.syncd.running import until
from tests.syncd.spool.parts import Installation, Quarantine, SpoolProcess, quarantine, record, spool, tell_members

SESSIONS = (1, 8, 64)
SIZES = (10_000, 100_000)
BIG_BYTES = 50_000_000
SMALL_BYTES = 3_000


@dataclass(slots=True)
class Processes:
    """What is measured."""

    nodes: list[SpoolProcess]
    receiver: Quarantine

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each leg so far."""
        legs = {"spool": self.nodes[0], "peer": self.nodes[1], "receiver": self.receiver}
        return {"worker": time.process_time()} | {
            name: cpu_s([each.process.pid]) if each.process else 0.0 for name, each in legs.items()
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.spool", description=__doc__)
    parser.add_argument("--records", type=int, default=4000, help="of 10 KB in one cell; a tenth of 100 KB")
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--short", action="store_true", help="only whether it runs")
    given = parser.parse_args()
    if given.short:
        given.records, given.backlog = 200, 2000
    with tempfile.TemporaryDirectory(prefix="mxs", dir="/tmp") as directory, ExitStack() as stack:
        asyncio.run(_measure(Path(directory), stack, given))


async def _measure(directory: Path, stack: ExitStack, given: argparse.Namespace) -> None:
    here = await _start(directory, stack)
    async with SpoolClient(here.nodes[0].socket, timeout_s=10) as client:
        numbers = itertools.count(1)
        await _many(client, numbers, 200, 8, SMALL_BYTES)
        print("| copy to | record | sessions | records/s | p50 ms | p99 ms | records a sync | CPU µs a record: worker |"
              " spool | holder |\n|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
        for holder in ("receiver", "peer"):
            if holder == "peer":
                here.receiver.kill()
            for size, sessions in itertools.product(SIZES, SESSIONS):
                count = given.records if size == SIZES[0] else given.records // 10
                await _cell(here, client, numbers, holder, (count if sessions > 1 else count // 4, sessions, size))
        here.receiver.start()
        await until(lambda: here.nodes[0].metric("syncd_spool_records") == 0, 120, "everything to be stored")
        await _backlog(here, client, numbers, given.backlog)


async def _start(directory: Path, stack: ExitStack) -> Processes:
    installation = Installation(directory)
    receiver = quarantine(installation)
    nodes = [spool(installation, name, receiver.port, secure_timeout_s=10.0) for name in ("mx1", "mx2")]
    tell_members(nodes)
    for each in (receiver, *nodes):
        each.start()
        stack.callback(each.kill)
    for node in nodes:
        await node.ready()
    return Processes(nodes, receiver)


async def _cell(
    here: Processes, client: SpoolClient, numbers: Iterator[int], holder: str, of: tuple[int, int, int]
) -> None:
    count, sessions, size = of
    node = here.nodes[0]
    before, synced = here.cpu_s(), (node.metric("syncd_spool_fsync_records_sum"), _syncs(node))
    began = time.perf_counter()
    took = await _many(client, numbers, count, sessions, size)
    spent_s = time.perf_counter() - began
    if holder == "receiver":
        await until(lambda: node.metric("syncd_spool_records") == 0, 60, "everything to be stored")
    after = here.cpu_s()
    cpu = {name: (after[name] - before[name]) / count * 1e6 for name in after}
    batch = (node.metric("syncd_spool_fsync_records_sum") - synced[0]) / max(1, _syncs(node) - synced[1])
    p50, p99 = statistics.median(took) * 1e3, sorted(took)[int(len(took) * 0.99)] * 1e3
    print(f"| {holder} | {size // 1000} KB | {sessions} | {count / spent_s:,.0f} | {p50:.1f} | {p99:.1f} |"
          f" {batch:.1f} | {cpu['worker']:.0f} | {cpu['spool']:.0f} | {cpu[holder]:.0f} |", flush=True)  # fmt: skip


async def _backlog(here: Processes, client: SpoolClient, numbers: Iterator[int], count: int) -> None:
    """Memory while nothing can be stored; then a big mail beside small ones."""
    node = here.nodes[0]
    here.receiver.refuse_to_store()
    empty = _anon_mb(node)
    await _many(client, numbers, count, 64, 200)
    full = _anon_mb(node)
    print(f"\nRssAnon of the spool: {empty:.0f} MB empty, {full:.0f} MB with {count:,} records held and not stored"
          f" ({(full - empty) * 1e6 / count:.0f} bytes a record)", flush=True)  # fmt: skip
    big = asyncio.create_task(client.secure(record(next(numbers)), os.urandom(BIG_BYTES)))
    took, most = list[float](), full
    while not big.done():
        took += await _many(client, numbers, 20, 4, SMALL_BYTES)
        most = max(most, _anon_mb(node))
    await big
    p99 = sorted(took)[int(len(took) * 0.99)] * 1e3
    print(f"while a mail of {BIG_BYTES // 10**6} MB passes: {most:.0f} MB; {len(took)} small ones, p50"
          f" {statistics.median(took) * 1e3:.1f} ms, p99 {p99:.1f} ms, longest {max(took) * 1e3:.1f} ms")  # fmt: skip
    here.receiver.refuse_to_store(False)


async def _many(client: SpoolClient, numbers: Iterator[int], count: int, sessions: int, size: int) -> list[float]:
    """Seconds that each of so many records took, so many at a time."""
    body, took, left = os.urandom(size), list[float](), iter(range(count))

    async def session() -> None:
        for _ in left:
            began = time.perf_counter()
            try:
                await client.secure(record(next(numbers)), body)
            except NotSecured as error:
                raise SystemExit(f"not secured: {error}") from error
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(session() for _ in range(sessions)))
    return took


def _anon_mb(program: SpoolProcess) -> float:
    assert program.process
    lines = Path(f"/proc/{program.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def _syncs(node: SpoolProcess) -> float:
    return node.metric("syncd_spool_fsync_seconds_count")


if __name__ == "__main__":
    main()
