"""Watches VAR/zones and has the name server re-read it within a second of any change.

Run by supervisord as `zones`; `python -m control.local.zones --var VAR --port-base N`.
"""

import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from control.local import arguments, programs, resolver
from control.local.layout import Layout
from monitoring import log

LOOK_EVERY_S = 0.3
RELOAD_WITHIN_S = 5.0

Seen = frozenset[tuple[str, int, int, int]]


def main() -> None:
    """Watch until ended."""
    layout = arguments.layout(__doc__)
    log.configure("zones")
    watch(layout)


def watch(layout: Layout, stopped: Callable[[], bool] = lambda: False) -> None:
    """Reload at each change, and until a reload was accepted: the server may be starting."""
    loaded: Seen | None = None
    while not stopped():
        now = look([*(layout.var / "zones").glob("*.zone"), resolver.upstream_file(layout)])
        if now != loaded and reload(layout):
            loaded = now
        time.sleep(LOOK_EVERY_S)


def look(files: Iterable[Path]) -> Seen:
    """What tells one state of files from another: name, inode, size and change time of each that exists."""
    found = set()
    for path in files:
        try:
            entry = path.stat()
        except FileNotFoundError:  # replaced or removed this moment: the next look sees what came of it
            continue
        found.add((path.name, entry.st_ino, entry.st_size, entry.st_mtime_ns))
    return frozenset(found)


def reload(layout: Layout) -> bool:
    """Write the configuration anew and have the server read it; False when it did not answer."""
    resolver.write(layout)
    command = [programs.find("knotc"), "-b", "-s", str(resolver.control_socket(layout)), "reload"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=RELOAD_WITHIN_S, check=False, text=True)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    main()
