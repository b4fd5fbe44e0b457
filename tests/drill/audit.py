"""`python -m tests.drill.audit`: watches the system calls of workers, spools and receiver while mail is refused and
held, and asks of every reply that kept a copy: was it synced in the journals of two hosts before the reply went out?

Needs strace and the right to attach to the cluster's processes. Exit status 1 for a single exception.
"""

import argparse
import contextlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.drill.__main__ import own_cluster
from tests.drill.database import away
from tests.drill.trace import Spoken, replies
from tests.e2e.fleet import Fleet, Reply, eventually, mail_bytes, send

AT_ONCE = 8
STRING_BYTES = 1 << 20
TRACED = ("worker", "spool", "receiver")
CALLS = "write,writev,sendto,sendmsg,fdatasync,fsync"


@dataclass(slots=True)
class Audit:
    """What was found."""

    sent: int = 0
    refused: int = 0
    held: int = 0
    deferred: int = 0
    exceptions: list[str] = field(default_factory=list)
    unseen: int = 0
    """Replies that the client had and the trace has not: then it proves nothing."""


def lacking() -> str:
    """Why no trace can be made here; "" when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.Popen(["sleep", "60"])
    try:
        done = subprocess.run(
            ["timeout", "-s", "INT", "1", "strace", "-p", str(probe.pid)], capture_output=True, text=True, check=False
        )
    finally:
        probe.kill()
        probe.wait()
    return "" if "attached" in done.stderr else f"strace may not attach: {done.stderr.strip()[:200]}"


def audit(fleet: Fleet, count: int, *, without_database: bool = False) -> Audit:
    """Send `count` mails, half refused with a copy and half held, under trace; what the replies stood on."""
    word, held = "zq" + secrets.token_hex(4), "held.test"
    fleet.settings(fleet.demo["domain"], {"content": {"mode": "on", "words": [word], "action": "refuse"}})
    fleet.add_domain(held)
    fleet.settings(held, {"content": {"mode": "on", "words": [word], "action": "hold"}})
    to = (fleet.demo["recipient"], f"you@{held}")
    with tempfile.TemporaryDirectory(prefix="mxa") as directory, ExitStack() as stack:
        path = Path(directory) / "trace"
        if without_database:
            stack.enter_context(away(fleet))
        with traced(fleet, path), ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(lambda n: _one(fleet, n, word, to[n % 2]), range(count)))
        with path.open(errors="replace") as lines:
            return judge(answers, list(replies(lines)))


def judge(answers: list[Reply], spoken: list[Spoken]) -> Audit:
    """The answers that clients had, held against the trace. Pure."""
    found, seen = Audit(sent=len(answers)), {each.id: each for each in spoken}
    for answer in answers:
        if not (answer.code == 250 or answer.code >= 500):
            found.deferred += 1
            continue
        found.refused += answer.code >= 500
        found.held += answer.code == 250
        here = next((each for name, each in seen.items() if name in answer.text), None)
        if here is None:
            found.unseen += 1
        elif len(here.hosts) < 2:
            found.exceptions.append(f"{answer.code} {here.id}: synced in {sorted(here.hosts) or 'no journal'}")
    return found


@contextlib.contextmanager
def traced(fleet: Fleet, path: Path) -> Iterator[None]:
    """One strace over all processes that matter, so that its file has one order."""
    pids = [str(pid) for name, pid in fleet.demo["pids"].items() if any(part in name for part in TRACED)]
    attach = [argument for pid in pids for argument in ("-p", pid)]
    command = [
        "strace",
        "-f",
        "-ttt",
        "-y",
        "-xx",
        "-s",
        str(STRING_BYTES),
        "-e",
        f"trace={CALLS}",
        "-e",
        "signal=none",
    ]
    tracer = subprocess.Popen([*command, "-o", str(path), *attach], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr
    attached = 0
    while attached < len(pids):
        line = tracer.stderr.readline()
        if not line:
            raise AssertionError(f"strace ended with {tracer.wait()} before it was attached")
        attached += "attached" in line
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=60)


def _one(fleet: Fleet, number: int, word: str, to: str) -> Reply:
    nodes = fleet.demo["smtp"]
    mail = mail_bytes(f"audit {number}", f"{word} is not wanted")
    return send(nodes[number // 2 % len(nodes)], mail, to=[to], source=f"127.0.0.{2 + number % 200}")


def main() -> int:
    """Audit, print, and say by the exit status whether there was an exception."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill.audit", description=__doc__)
    parser.add_argument("--demo", type=Path, help="demo.json of a running cluster; default: one of its own")
    parser.add_argument("--replies", type=int, default=1000)
    given = parser.parse_args()
    if why := lacking():
        sys.exit(why)
    bad = 0
    with ExitStack() as stack:
        fleet = Fleet(given.demo or stack.enter_context(own_cluster()))
        stack.callback(fleet.close)
        for without in (False, True):
            found = audit(fleet, given.replies, without_database=without)
            where = "PostgreSQL stopped" if without else "all well"
            print(
                f"{where}: {found.refused} refused and {found.held} held of {found.sent} ({found.deferred} deferred);"
                f" {len(found.exceptions)} exceptions, {found.unseen} replies not in the trace"
            )
            print("\n".join(found.exceptions[:20]))
            bad += len(found.exceptions) + found.unseen
            eventually(lambda: fleet.metric("receiver", "control_receiver_backlog") == 0, "the backlog", within_s=60)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
