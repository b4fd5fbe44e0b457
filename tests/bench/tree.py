"""CPU time of a process and everything it started, children that have ended included."""

import os
from collections.abc import Sequence
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(roots: Sequence[int]) -> float:
    """User and system time so far of these processes and their descendants, in seconds."""
    return sum(_ticks(pid) for pid in descendants(roots)) * TICK_S


def descendants(roots: Sequence[int]) -> set[int]:
    """These processes and all that they started, by pid."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended between the listing and the reading
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    ahead = list(roots)
    while ahead:
        pid = ahead.pop()
        if pid not in found:
            found.add(pid)
            ahead += children.get(pid, [])
    return found


def _ticks(pid: int) -> int:
    """Its own time and that of its children that were waited for (proc(5): utime, stime, cutime, cstime)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(ticks) for ticks in fields[11:15])
