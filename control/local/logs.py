"""Keeps the logs of a local cluster small.

Programs append to their log files themselves: through a pipe to the supervisor, a busy or dead supervisor would
stop them. So a file that has grown is copied and cut where it lies; lines written between both are lost.
"""

import os
import shutil
from pathlib import Path

MAX_BYTES = 10 * 1024 * 1024
KEPT = 3


def rotate(directory: Path, *, max_bytes: int = MAX_BYTES) -> list[str]:
    """Cut every log that is larger, keeping the last `KEPT` copies; returns the names of those cut. Raises OSError."""
    grown = [path for path in sorted(directory.glob("*.log")) if path.stat().st_size > max_bytes]
    for path in grown:
        for number in range(KEPT, 1, -1):
            older = path.with_name(f"{path.name}.{number - 1}")
            if older.exists():
                older.rename(path.with_name(f"{path.name}.{number}"))
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)
    return [path.name for path in grown]
