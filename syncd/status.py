"""How far a node's settings are: one record beside them, for follow, its workers, and the receipt."""

import time
from pathlib import Path
from typing import Literal

import msgspec

from syncd.published import NOTHING, Point

STALE_S = 10.0
"""A status that was not renewed for so long no longer proves that anything is or is not there; follow renews it every
2.5 s."""

State = Literal["unsynced", "loading", "live", "stale"]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How far the store is. `complete`: it once held a whole revision, and since then only whole revisions.

    `digest` is that of the content, `published` META's at the same revision. `heard_at` is CLOCK_MONOTONIC of the boot
    `boot`; `etcd_revision` and `cluster` say where the next watch begins. `out` is why the node is out of
    rotation, until `out_until` of the same clock.
    """

    generation: int = 0
    revision: int = 0
    digest: str = NOTHING.hex()
    count: int = 0
    published: str = ""
    etcd_revision: int = 0
    cluster: int = 0
    state: State = "unsynced"
    complete: bool = False
    heard_at: float = 0.0
    boot: str = ""
    unreadable: tuple[str, ...] = ()
    out: str = ""
    out_until: float = 0.0

    @property
    def point(self) -> Point:
        """For comparing."""
        return self.generation, self.revision

    @property
    def agrees(self) -> bool:
        """Whether the content is what was published."""
        return self.complete and self.digest == self.published

    def age_s(self) -> float:
        """Seconds since etcd was heard; infinite when that was in another boot, or never."""
        return monotonic() - self.heard_at if self.boot == boot_id() else float("inf")

    @property
    def can_deny(self) -> bool:
        """Whether what is not here does not exist: live, whole, what was published, and heard just now."""
        return self.state == "live" and self.agrees and self.age_s() < STALE_S

    @property
    def in_rotation(self) -> bool:
        """Whether the node takes new sessions. Being out needs fresh proof; without any, it serves what it knows."""
        return not self.out or self.boot != boot_id() or monotonic() >= self.out_until


def monotonic() -> float:
    """A clock that all processes of one boot share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def boot_id() -> str:
    """Names this boot of the machine."""
    global _boot
    _boot = _boot or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return _boot


_boot = ""
