"""The drill's faults: each a context that breaks something on entering and heals it on leaving.

Processes are found by their names in `demo.json` and signalled by pid; a killed one is brought back by the cluster's
own supervisor, never by the drill.
"""

import os
import random
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.drill import network
from tests.drill.database import connections_killed, read_only, stopped
from tests.e2e.fleet import Fleet, eventually

BACK_WITHIN_S = 60.0
KILLS = 3
"""How often one process is killed within its fault."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. `of` begins it and, when its time is up, heals it."""

    name: str
    of: Callable[[Fleet], AbstractContextManager[None]]
    lasts_s: float = 8.0


def pid_of(fleet: Fleet, process: str) -> int:
    """The pid that demo.json names."""
    return int(fleet.demo["pids"][process])


@contextmanager
def killed(fleet: Fleet, *processes: str) -> Iterator[None]:
    """Each killed at once; healed when every one has another pid and its figures are there again."""
    before = {process: pid_of(fleet, process) for process in processes}
    for pid in before.values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    yield
    for process, pid in before.items():
        eventually(lambda process=process, pid=pid: is_back(fleet, process, pid), f"{process} back", within_s=60)


@contextmanager
def killed_often(fleet: Fleet, process: str) -> Iterator[None]:
    """Killed several times, each time as soon as it is back."""
    for _ in range(KILLS):
        with killed(fleet, process):
            pass
    yield


@contextmanager
def frozen(fleet: Fleet, *processes: str) -> Iterator[None]:
    """Stopped by SIGSTOP, gone on by SIGCONT."""
    with ExitStack() as thaw:
        for process in processes:
            pid = pid_of(fleet, process)
            os.kill(pid, signal.SIGSTOP)
            thaw.callback(os.kill, pid, signal.SIGCONT)
        yield


@contextmanager
def writes_fail(fleet: Fleet, process: str) -> Iterator[None]:
    """Every write into a file fails (EFBIG by RLIMIT_FSIZE 0): as a disk does that takes nothing more."""
    pid = pid_of(fleet, process)
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    with suppress(ProcessLookupError):  # it may have been restarted, and then has its own limits
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def segment_damaged(fleet: Fleet, node: str, how: str) -> Iterator[None]:
    """The newest journal segment of a node gets torn, flipped or zeroed in its last bytes, its process being dead."""
    pid = pid_of(fleet, f"{node}.spool")
    os.kill(pid, signal.SIGSTOP)
    segments = sorted((fleet.path.parent / "nodes" / node / "journal").rglob("*.seg"), key=lambda p: p.stat().st_mtime)
    for path in segments[-1:]:
        damage(path, how)
    os.kill(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGCONT)
    yield
    eventually(lambda: is_back(fleet, f"{node}.spool", pid), f"{node}.spool back", within_s=BACK_WITHIN_S)


def damage(path: Path, how: str) -> None:
    """Append half a record ("torn"), or flip a bit in ("flipped") or zero ("zeroed") what a crash may leave behind."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if how == "torn":
            file.write(os.urandom(random.randrange(1, 300)))
        elif how == "zeroed":
            file.write(bytes(4096))
        elif size:
            file.write(bytes([0xFF]) * 17)


@contextmanager
def disk_lost(fleet: Fleet, node: str) -> Iterator[None]:
    """A node is gone with all it had on disk, and comes back under the same name with an empty one."""
    processes = _of(fleet, f"{node}.")
    directory = fleet.path.parent / "nodes" / node
    for process in processes:
        os.kill(pid_of(fleet, process), signal.SIGSTOP)
    for path in (directory / "journal", directory / "lastgood"):
        shutil.rmtree(path)
        path.mkdir()
    with killed(fleet, *processes):
        yield


@contextmanager
def restarted(fleet: Fleet, *processes: str) -> Iterator[None]:
    """One after the other ends in its orderly way and is started again."""
    for process in processes:
        pid = pid_of(fleet, process)
        # PostgreSQL waits for its clients after SIGTERM, for ever; SIGINT is its orderly end.
        os.kill(pid, signal.SIGINT if process == "postgres" else signal.SIGTERM)
        eventually(lambda process=process, pid=pid: is_back(fleet, process, pid), f"{process} back", within_s=60)
    yield


def is_back(fleet: Fleet, process: str, old_pid: int) -> bool:
    """Whether another process runs under this name now, and answers where it exports figures."""
    pid = pid_of(fleet, process)
    if pid == old_pid or not Path(f"/proc/{pid}").exists():
        return False
    if process not in fleet.demo["metrics"]:
        return True
    try:
        fleet.metric(process, "process_start_time_seconds")
    except Exception:  # noqa: BLE001 - whatever httpx says of a port that is not there yet
        return False
    return True


def catalogue(fleet: Fleet) -> list[Fault]:
    """Every fault, in the order in which they are tried."""
    everything = sorted(name for name in fleet.demo["pids"] if name != "supervisor")
    once = sorted({name for name in everything if not name.startswith("mx2.") and not name.endswith("worker2")})
    faults = [Fault(f"kill {name}", lambda f, name=name: killed_often(f, name), 3.0) for name in once]
    faults += [Fault(f"freeze {name}", lambda f, name=name: frozen(f, name), 10.0) for name in once]
    faults += [
        Fault("receiver and mx2.spool frozen", lambda f: frozen(f, "receiver", "mx2.spool"), 10.0),
        Fault("receiver frozen a minute", lambda f: frozen(f, "receiver"), 60.0),
        Fault("PostgreSQL read-only", read_only, 10.0),
        Fault("PostgreSQL's connections killed", connections_killed, 5.0),
        Fault("PostgreSQL stopped immediately", stopped, 15.0),
        Fault("mx1.spool cannot write", lambda f: writes_fail(f, "mx1.spool"), 10.0),
        Fault("receiver cannot write", lambda f: writes_fail(f, "receiver"), 10.0),
        *(
            Fault(f"mx1 journal {how}", lambda f, how=how: segment_damaged(f, "mx1", how), 3.0)
            for how in ("torn", "flipped", "zeroed")
        ),
        Fault("node mx1 lost with its disk", lambda f: disk_lost(f, "mx1"), 5.0),
        Fault("rolling restart of everything", lambda f: restarted(f, *everything), 2.0),
        Fault("node mx1 killed whole", lambda f: killed(f, *_of(f, "mx1.")), 5.0),
        Fault("everything killed", lambda f: killed(f, *everything), 10.0),
    ]
    return faults + (_of_the_network(fleet) if network.is_ours() else [])


def _of_the_network(fleet: Fleet) -> list[Fault]:
    faults = []
    for link, ports in network.ports(fleet).items():
        faults += [
            Fault(f"{link} cut", lambda f, ports=ports: network.cut(f, *ports), 15.0),
            Fault(f"{link} cut one way", lambda f, ports=ports: network.cut(f, *ports, answers_only=True), 15.0),
            Fault(f"{link} flapping", lambda f, ports=ports: network.flapping(f, *ports), 15.0),
        ]
    both = network.ports(fleet)["node–node"] + network.ports(fleet)["node–quarantine"]
    return [*faults, Fault("node–node and node–quarantine cut", lambda f: network.cut(f, *both), 15.0)]


def _of(fleet: Fleet, prefix: str) -> list[str]:
    return [name for name in fleet.demo["pids"] if name.startswith(prefix)]
