"""Watches VAR/zones and has the name server re-read it at any change."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from control.local import programs, resolver
from control.local.layout import Layout

RELOAD_WITHIN_S = 5.0

Seen = frozenset[tuple[str, int, int, int]]


class Watch:
    """Remembers which state of the zone files the name server has read."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._loaded: Seen | None = None

    def look(self) -> None:
        """Reload after a change; again at the next look when the server did not answer, for it may be starting."""
        now = look([*(self._layout.var / "zones").glob("*.zone"), resolver.upstream_file(self._layout)])
        if now != self._loaded and reload(self._layout):
            self._loaded = now


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
