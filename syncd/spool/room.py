"""How much a spool may take: of the disk, where new records are refused, and of memory, where old ones are re-read."""

import os
import time
from collections.abc import Callable
from pathlib import Path

MAX_BYTES = 8 * 1024**3
MIN_FREE_BYTES = 256 * 1024**2
MEMORY_BYTES = 64 * 1024**2
"""Content kept in memory, to be shipped without a read, by all journals of a process together."""
LOOK_S = 1.0


class Room:
    """Shared by all journals of a process, which count their bytes here."""

    def __init__(
        self,
        directory: Path,
        max_bytes: int = MAX_BYTES,
        min_free_bytes: int = MIN_FREE_BYTES,
        memory_bytes: int = MEMORY_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory, self._clock = directory, clock
        self._max_bytes, self._min_free_bytes = max_bytes, min_free_bytes
        self.memory_left = memory_bytes
        self.used_bytes = 0
        """Bytes of records that are not released, in all journals."""
        self._free_bytes, self._looked_at = 0, float("-inf")

    @property
    def free_bytes(self) -> int:
        """Free bytes of the file system, looked up once a second; 0 when it does not answer."""
        if self._clock() - self._looked_at >= LOOK_S:
            self._looked_at = self._clock()
            try:
                found = os.statvfs(self._directory)
                self._free_bytes = found.f_bavail * found.f_frsize
            except OSError:
                self._free_bytes = 0
        return self._free_bytes

    def lacks(self, more_bytes: int = 0) -> str:
        """Why a record of this size is not taken; "" when it is."""
        if self.used_bytes + more_bytes > self._max_bytes:
            return f"the journals hold {self.used_bytes} bytes, at most {self._max_bytes} are allowed"
        if self.free_bytes - more_bytes < self._min_free_bytes:
            return f"the disk has {self.free_bytes} bytes left, {self._min_free_bytes} are kept free"
        return ""
