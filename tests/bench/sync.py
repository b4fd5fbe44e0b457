"""What the way of a setting costs, with 100,000 domains: `make bench-sync [DOMAINS=2000]`.

    python -m tests.bench.sync [--domains 100000] [--changes 300] [--bulk 10000] [--no-many]

Panel, publisher, follow and worker processes, PostgreSQL, etcd and memcached are the real ones, all on this machine, so
that figures share its cores. Times of changes are what a client of the API waits for (`?wait=applied`). Printed as a
table for docs/benchmarks.md, and written to var/bench-sync.json.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import msgspec

from mx.policy import Policies
from tests.bench.sync_fleet import Fleet, add_node, add_workers, fleet, until
from tests.bench.tree import cpu_s, descendants
from tests.syncd.running import ROOT, Program

WORKERS = 2
GONE_S = 20.0
MANY = (2, 10, 50)
MANY_DOMAINS = 2_000
LOOKUPS = 20_000
Rows = dict[str, str]


def main() -> int:
    """Run everything, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", type=int, default=100_000)
    parser.add_argument("--changes", type=int, default=300)
    parser.add_argument("--bulk", type=int, default=0, help="domains of the bulk change; default: a tenth")
    parser.add_argument("--no-many", action="store_true", help="leave out 10 and 50 nodes")
    given = parser.parse_args()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(1)
    )  # so that what was started is ended, and its directory removed
    rows: Rows = {"load average at the start": f"{os.getloadavg()[0]:.1f}"}
    with _directory() as directory, fleet(directory, given.domains) as made:
        parts = (
            lambda: _load(made),
            lambda: _changes(made, given.changes, given.bulk or given.domains // 10),
            lambda: _memory(made),
            lambda: _lookups(made),
            lambda: _gone(made),
        )
        for part in parts:
            rows |= _said(part())
    for count in () if given.no_many else MANY:
        with _directory() as directory, fleet(directory, min(given.domains, MANY_DOMAINS), count) as made:
            rows |= _said(_many(made, count, given.changes // 3))
    _tell(rows, given.domains)
    return 0


@contextmanager
def _directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mxf", dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _load(made: Fleet) -> Rows:
    """The first fill of etcd, and the full load of each node."""
    began = time.monotonic()
    made.publisher.start()
    last = made.revision
    first = add_node(made, 0)
    until(lambda: first.status().revision >= last and first.status().state == "live", "the first node")
    filled_s = time.monotonic() - began
    began, before = time.monotonic(), cpu_s([_pid(made.publisher)])
    second = add_node(made, 1)
    until(lambda: second.status().state == "live", "the second node")
    loaded_s, cpu = time.monotonic() - began, cpu_s([_pid(second)])
    for node in made.follows:
        add_workers(made, node, WORKERS)
    return {
        "empty etcd filled from PostgreSQL and on the first node": f"{filled_s:.1f} s",
        "full load of another node, its start included": f"{loaded_s:.1f} s ({cpu:.1f} s CPU)",
        "CPU of the publisher meanwhile": f"{cpu_s([_pid(made.publisher)]) - before:.1f} s",
    }


def _changes(made: Fleet, count: int, bulk: int) -> Rows:
    _times(made, 20, _domain)
    alone = _times(made, count, _domain)
    system = _times(made, max(10, count // 10), _system)
    began = time.monotonic()
    body = {"patch": {"scoring": {"doubt_at": 3.0}}, "domains": [made.name(number) for number in range(bulk)]}
    progress = made.call("POST", "/bulk/settings", body)
    checked_s = time.monotonic() - began
    ended: list[float] = []
    watching = threading.Thread(target=_follow_bulk, args=(made, progress["id"], ended))
    watching.start()
    beside = _times(made, 10_000, _domain, lambda: bool(ended))
    watching.join()
    return {
        "PATCH → applied on 2 of 2, median / p99": _shown(alone),
        f"the same while {bulk} domains are changed in bulk": f"{_shown(beside)} ({len(beside)} changes)",
        f"bulk change of {bulk} domains: checked / applied on 2 of 2": f"{checked_s:.1f} / {ended[0] - began:.1f} s",
        "system layer, one key: PATCH → applied on 2 of 2": _shown(system),
    }


def _follow_bulk(made: Fleet, bulk_id: str, ended: list[float]) -> None:
    own = Fleet(**{**vars(made), "http": None})
    until(lambda: own.call("GET", f"/bulk/settings/{bulk_id}")["applied"], "the bulk change")
    ended.append(time.monotonic())


def _times(
    made: Fleet, most: int, change: Callable[[Fleet, int], Any], stop: Callable[[], bool] = lambda: False
) -> list[float]:
    """Milliseconds that each of these changes took until it was applied everywhere."""
    times = []
    for number in range(most):
        if stop():
            break
        began = time.monotonic()
        answer = change(made, number)
        times.append((time.monotonic() - began) * 1000)
        assert answer["applied"], answer
    return times


def _domain(made: Fleet, number: int) -> Any:
    tag = {"scoring": {"tag": f"[{time.monotonic_ns()}]"}}
    name = made.name(made.domains - 1 - number * 7 % (made.domains // 2))
    return made.call("PATCH", f"/domains/{name}/settings?wait=applied&timeout=30", tag)


def _system(made: Fleet, number: int) -> Any:
    days = {"retention": {"days": 5 + time.monotonic_ns() % 60}, "scoring": {"doubt_at": number / 100}}
    return made.call("PATCH", "/system/settings?wait=applied&timeout=30", days)


def _memory(made: Fleet) -> Rows:
    """RssAnon of every process, children included; a node's sum."""
    node = [made.follows[0], *made.workers[:WORKERS]]
    parts = {"follow": _anon_mb([_pid(node[0])]), "two workers": _anon_mb([_pid(each) for each in node[1:]])}
    parts["memcached"] = _anon_mb([made.memcacheds[0].pid])
    named = ", ".join(f"{name} {size:.0f}" for name, size in parts.items())
    control = (("publisher", made.publisher), ("panel", made.panel))
    return {
        "RssAnon of a node with two workers": f"{sum(parts.values()):.0f} MB ({named})",
        "RssAnon of the control plane": ", ".join(f"{name} {_anon_mb([_pid(each)]):.0f} MB" for name, each in control),
        "etcd": f"{_anon_mb([made.etcd.pid]):.0f} MB",
    }


def _lookups(made: Fleet) -> Rows:
    """CPU µs a look at a policy, by the tier that answers; by a reader of the node's store in this process."""
    node = made.follows[0]
    assert node.node
    if node.reader:
        node.reader.close()  # LMDB opens a file once in a process
    names = [made.name(number) for number in range(min(LOOKUPS, made.domains))]
    with Policies(node.node) as policies:
        cold = _cost(policies, names)
    with Policies(node.node) as policies:
        warm = _cost(policies, names)
        memory = _cost(policies, [names[-1]] * LOOKUPS)
    with Policies(msgspec.structs.replace(node.node, memcached_socket=node.node.state_dir + "/none")) as policies:
        alone = _cost(policies, names)
    return {
        "look-up, CPU: memory / memcached / resolved and put there / resolved without memcached": (
            f"{memory:.0f} / {warm:.0f} / {cold:.0f} / {alone:.0f} µs"
        )
    }


def _cost(policies: Policies, names: Sequence[str]) -> float:
    began = time.process_time()
    for name in names:
        policies.find(name)
    return (time.process_time() - began) / len(names) * 1e6


def _gone(made: Fleet) -> Rows:
    """CPU of a follower while etcd is gone."""
    made.etcd.kill()
    until(lambda: all(node.status().state == "stale" for node in made.follows), "the nodes to notice", 30)
    before, began = cpu_s([_pid(made.follows[1])]), time.monotonic()
    time.sleep(GONE_S)
    used = (cpu_s([_pid(made.follows[1])]) - before) / (time.monotonic() - began)
    made.etcd.start()
    began = time.monotonic()
    until(lambda: all(node.status().state == "live" for node in made.follows), "the nodes to come back", 60)
    return {
        "CPU of a follower while etcd is gone": f"{used * 100:.2f} % of a core",
        "etcd answers again → both live": f"{time.monotonic() - began:.1f} s",
    }


def _many(made: Fleet, count: int, changes: int) -> Rows:
    made.publisher.start()
    programs = []
    for first in range(0, count, 25):
        many = min(25, count - first)
        arguments = ["--count", str(many), "--first", str(first), "--etcd", made.etcd.endpoint]
        arguments += ["--directory", str(made.directory)]
        programs.append(
            Program([sys.executable, "-m", "tests.bench.followers", *arguments], made.directory / f"many{first}.log")
        )
        programs[-1].start()
    try:
        fleet_of = lambda: made.call("GET", "/nodes")["items"]  # noqa: E731
        until(lambda: all(node["reports"] == "live" and node["behind"] == 0 for node in fleet_of()), "every node", 120)
        _times(made, 5, _domain)
        times = _times(made, changes, _domain)
        return {f"{count} nodes, {made.domains} domains: PATCH → applied on all": _shown(times)}
    finally:
        for program in programs:
            program.kill()


def _said(rows: Rows) -> Rows:
    """The rows, said as they come: the whole takes minutes."""
    for name, value in rows.items():
        print(f"{name}: {value}", file=sys.stderr, flush=True)
    return rows


def _shown(times: Sequence[float]) -> str:
    return f"{median(times):.1f} / {quantiles(times, n=100)[-1]:.1f} ms" if len(times) > 1 else "too few"


def _pid(program: Program) -> int:
    assert program.process
    return program.process.pid


def _anon_mb(roots: Sequence[int]) -> float:
    total = 0
    for pid in descendants(roots):
        status = Path(f"/proc/{pid}/status").read_text()
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
    return total / 1024


def _tell(rows: Rows, domains: int) -> None:
    rows["load average at the end"] = f"{os.getloadavg()[0]:.1f}"
    print(f"| {domains} domains | |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    path = Path(os.environ.get("VAR") or ROOT / "var") / "bench-sync.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"domains": domains, **rows}, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
