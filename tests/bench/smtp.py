"""CPU a mail costs our node and its peers, in one run: `python -m tests.bench.smtp [--rounds 3] [--short] [--write]`.

Outcomes: relayed to smtp-sink, kept with two durable copies, refused at RCPT, over STARTTLS, to ten
recipients. Servers take turns within a column, so that all meet the same machine; the median of the rounds
is shown, CPU µs a mail of the server's whole process tree. A peer that is not installed is named and left
out. `--write` puts the tables into docs/benchmarks.md.
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from syncd.layers import NextHop
from tests.bench import peers
from tests.bench.load import Load, send
from tests.bench.node import node, policy, wait_for
from tests.bench.peers import Peer
from tests.bench.tree import cpu_s

DOMAINS = [*(f"d{number}.bench" for number in range(20)), "keep.bench"]
SETTLE_S = 0.4
"""Between the last reply and the reading, so that what is done after it counts too."""
DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- bench-smtp -->", "<!-- /bench-smtp -->"


@dataclass(frozen=True)
class Column:
    """One load and how many mails of it."""

    name: str
    load: Load
    mails: int


@dataclass(frozen=True)
class Table:
    """One outcome."""

    title: str
    columns: Sequence[Column]
    servers: Sequence[str]


def sizes(load: Load, what: Sequence[tuple[str, int, int]], ways: Sequence[bool] = (False, True)) -> list[Column]:
    """Columns for each size and for one mail and many a connection."""
    return [
        Column(f"{name} {'many' if many else 'one'}", replace(load, size=size, many=many), mails)
        for name, size, mails in what
        for many in ways
    ]


ALL = [("2 KB", 2048, 1500), ("10 KB", 10_240, 1200), ("50 KB", 51_200, 600), ("1 MB", 1_048_576, 60)]
SMALL = [("2 KB", 2048, 1500), ("50 KB", 51_200, 600)]
RELAYING = ("node", "node, two workers", "node, no policy", "postfix", "postfix-proxy", "haraka")
TABLES = (
    Table("(a) Relayed", sizes(Load(), ALL), RELAYING),
    Table(
        "(b) Kept",
        sizes(Load(to="user@keep.bench", refused=True), SMALL),
        ("node, keeping", "holders of the second copy", "postfix", "haraka, keeping"),
    ),
    Table(
        "(c) Refused at RCPT",
        sizes(Load(to="nobody@d7.bench", refused=True), SMALL[:1]),
        ("node", "node, two workers", "postfix", "haraka, keeping"),
    ),
    Table("(d) Relayed, over STARTTLS", sizes(Load(tls=True), SMALL, (False,)), ("node", "postfix", "haraka")),
    Table("(e) Relayed, ten recipients", sizes(Load(recipients=10), SMALL[:1]), ("node", "postfix", "haraka")),
)


@contextlib.contextmanager
def servers(directory: Path, skipped: list[str]) -> Iterator[dict[str, Peer]]:
    """Everything that can run here, by name."""
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(peers.smtp_sink())
        hop = NextHop("127.0.0.1", sink)
        one = stack.enter_context(node(directory / "one", hop))
        two = stack.enter_context(node(directory / "two", hop, workers=2))
        bare = stack.enter_context(node(directory / "bare", hop, with_policy=False))
        keeping = stack.enter_context(node(directory / "keeping", hop, keeping=True))
        found = {
            "node": Peer(one.port, one.pids),
            "node, two workers": Peer(two.port, two.pids),
            "node, no policy": Peer(bare.port, bare.pids),
            "node, keeping": Peer(keeping.port, keeping.pids),
            "holders of the second copy": Peer(keeping.port, keeping.holders),
        }
        users = policy()["recipients"]
        with _unless_missing(skipped):
            found["postfix"], found["postfix-proxy"] = stack.enter_context(
                peers.postfix(directory / "postfix", sink, users, DOMAINS)
            )
        for name, keeps in (("haraka", False), ("haraka, keeping", True)):
            (directory / name).mkdir()
            with _unless_missing(skipped):
                domains = [name for name in DOMAINS if name != "d7.bench"] if keeps else DOMAINS
                found[name] = stack.enter_context(peers.haraka(directory / name, sink, domains, keeping=keeps))
        yield found


@contextlib.contextmanager
def _unless_missing(skipped: list[str]) -> Iterator[None]:
    try:
        yield
    except LookupError as missing:
        skipped.append(str(missing))


def measured(table: Table, running: dict[str, Peer], rounds: int, share: float) -> dict[str, list[float]]:
    """CPU µs a mail for each server and column."""
    found: dict[str, list[float]] = {name: [] for name in table.servers if name in running}
    for column in table.columns:
        mails = max(20, round(column.mails * share))
        runs: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(rounds):
            for name in found:
                if name != "holders of the second copy":
                    _one_run(name, running, column, mails, runs)
        for name in found:
            found[name].append(median(runs[name]))
        print(f"  {column.name}: " + ", ".join(f"{name} {found[name][-1]:.0f}" for name in found), flush=True)
    return found


def _one_run(name: str, running: dict[str, Peer], column: Column, mails: int, runs: dict[str, list[float]]) -> None:
    peer = running[name]
    counted = {name: peer}
    if name == "node, keeping" and "holders of the second copy" in runs:
        counted["holders of the second copy"] = running["holders of the second copy"]
    send(peer.port, column.load, 20)
    _settled(peer)
    before = {each: cpu_s(one.pids) for each, one in counted.items()}
    send(peer.port, column.load, mails)
    _settled(peer)
    for each, one in counted.items():
        runs[each].append((cpu_s(one.pids) - before[each]) / mails * 1e6)


def _settled(peer: Peer) -> None:
    wait_for(peer.is_done, "the queue to empty", 120)
    time.sleep(SETTLE_S)


def markdown(table: Table, found: dict[str, list[float]]) -> str:
    """The table of one outcome, with the ratios to our node."""
    ours = next(iter(found))
    head = ["", *(column.name for column in table.columns)]
    lines = [f"### {table.title}", "", _row(head), _row(["---"] * len(head))]
    for name, values in found.items():
        lines.append(_row([name, *(f"{value:.0f}" for value in values)]))
    for name, values in found.items():
        if name != ours and not name.startswith(("node", "holders")):
            ratios = [f"{value / mine:.1f}" for value, mine in zip(values, found[ours], strict=True)]
            lines.append(_row([f"{name} : {ours}", *ratios]))
    return "\n".join([*lines, ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run every table and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="one round of few mails: that it runs, not how fast")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    arguments = parser.parse_args()
    rounds, share = (1, 0.02) if arguments.short else (arguments.rounds, 1.0)
    skipped: list[str] = []
    directory = Path(tempfile.mkdtemp(prefix="mxf", dir="/tmp"))
    directory.chmod(0o755)
    texts = []
    try:
        with servers(directory, skipped) as running:
            for table in TABLES:
                if arguments.short:
                    table = replace(table, columns=table.columns[:2])
                print(table.title, flush=True)
                texts.append(markdown(table, measured(table, running, rounds, share)))
    except LookupError as missing:
        print(f"skipped: {missing} is not installed")
        sys.exit(0 if arguments.short else 1)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    load = os.getloadavg()[1]
    note = f"{rounds} round{'s' * (rounds > 1)}; load of the machine {load:.1f} on {os.cpu_count()} cores"
    missing = f" Not installed: {', '.join(dict.fromkeys(skipped))}." if skipped else ""
    text = "\n".join([f"CPU µs a mail; {note}.{missing}", "", *texts])
    print(text)
    if arguments.write:
        _write(text)


def _write(text: str) -> None:
    page = DOCS.read_text()
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    DOCS.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
