"""Mistakes put back into the real code on purpose: the simulation has to find each.

The first five are those that a spool of this kind is known for; it found the others by itself.
"""

import asyncio
import hashlib
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from syncd.spool import node as node_module
from syncd.spool import recover
from syncd.spool.journal import Journal
from syncd.spool.node import OWN, Spool
from syncd.spool.origin import Origin
from syncd.spool.ranges import Positions
from syncd.spool.submit import Secured
from syncd.spool.takeover import Takeovers


@contextmanager
def ack_before_fsync() -> Iterator[None]:
    """A record counts as held once it is in memory."""
    real = Journal.append

    def append(self: Journal, *what: Any) -> "asyncio.Future[None]":
        real(self, *what)
        early = asyncio.get_running_loop().create_future()
        early.set_result(None)
        return early

    with mock.patch.object(Journal, "append", append):
        yield


@contextmanager
def release_before_stored() -> Iterator[None]:
    """What the receiver holds is forgotten, as if it were in the quarantine."""
    real = Origin.held

    def held(self: Origin, link: Any, ranges: Any) -> None:
        real(self, link, ranges)
        if link.target == self._receiver:
            self._now_stored(Positions(ranges))

    with mock.patch.object(Origin, "held", held):
        yield


@contextmanager
def positions_reused() -> Iterator[None]:
    """A restart goes on in its last epoch, behind the last record that its disk still has."""
    real = Spool.__init__

    def init(self: Spool, node: Any, **how: Any) -> None:
        before = sorted((Path(node.spool.journal_dir) / OWN).glob("*"))
        with _epoch(lambda fresh: before[-1].name if before else fresh()):
            real(self, node, **how)
        if before:
            journal = Journal.load(before[-1], self._current.stream, self._room, self._aside)
            self._current = self._origin(journal, True)
            self._current._next = max(journal.records, default=0) + 1
            self._origins = [self._current]

    with mock.patch.object(Spool, "__init__", init):
        yield


@contextmanager
def replaced_disk_unnoticed() -> Iterator[None]:
    """Epochs are counted on the disk and named after the node: an empty disk begins with the first one again."""
    real = Spool.__init__

    def init(self: Spool, node: Any, **how: Any) -> None:
        count = Path(node.spool.journal_dir) / "count"
        number = int(count.read_text()) + 1 if count.exists() else 0
        name = hashlib.blake2b(f"{node.name} {number}".encode(), digest_size=16).hexdigest()
        with _epoch(lambda fresh: name):
            real(self, node, **how)
        count.write_text(str(number))

    with mock.patch.object(Spool, "__init__", init):
        yield


@contextmanager
def takeover_of_the_living() -> Iterator[None]:
    """A silent origin is taken for dead though it is connected, and its records become one's own."""
    real = Spool.__init__

    def init(self: Spool, *what: Any, **how: Any) -> None:
        real(self, *what, **how)
        self._takeovers.origin = self._current  # type: ignore[attr-defined]

    def is_due(self: Any, stream: Any, held: Any) -> bool:
        loop = asyncio.get_running_loop()
        return bool(held.journal.records) and loop.time() - held.heard_at > self._silent_s

    def begin(self: Any, group: Any, stream: Any, held: Any) -> None:
        self._running[stream] = []
        for kept in list(held.journal.records.values()):
            self.origin.take(kept.item, held.journal.read_now(kept))

    with (
        mock.patch.object(Spool, "__init__", init),
        mock.patch.object(Takeovers, "_is_due", is_due),
        mock.patch.object(Takeovers, "_begin", begin),
    ):
        yield


@contextmanager
def unsynced_bytes_trusted() -> Iterator[None]:
    """What a killed process left readable counts as held, though it was never synced."""
    with mock.patch.object(recover, "_make_sure", return_value=None):
        yield


@contextmanager
def large_lane_forgotten() -> Iterator[None]:
    """Of an older epoch only small records are shipped."""
    real = Origin._link

    def link(self: Origin, target: Any, lane: Any) -> Any:
        return None if lane == "large" and not self._is_current else real(self, target, lane)

    with mock.patch.object(Origin, "_link", link):
        yield


@contextmanager
def peers_not_told_again() -> Iterator[None]:
    """Nobody tells a peer that what reached it on a given-up connection is not needed."""
    with mock.patch.object(Origin, "held", lambda self, link, ranges: self._now_held(link, Positions(ranges))):
        yield


@contextmanager
def stored_settles_withdrawals() -> Iterator[None]:
    """STORED passes for the answer to a withdrawal."""
    real = Origin._now_stored

    def now_stored(self: Origin, positions: Positions) -> None:
        self.journal.settle(positions)
        real(self, positions)

    with mock.patch.object(Origin, "_now_stored", now_stored):
        yield


@contextmanager
def unheard_answers_stand() -> Iterator[None]:
    """What was answered as secured stays, whether or not its worker heard that in time."""
    with mock.patch.object(Secured, "pop", return_value=None):
        yield


@contextmanager
def _epoch(chosen: Callable[[Callable[[], str]], str]) -> Iterator[None]:
    names = node_module.secrets
    made = types.SimpleNamespace(token_hex=lambda count: chosen(lambda: names.token_hex(count)))
    with mock.patch.object(node_module, "secrets", made):
        yield


BUGS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "ack before fsync": ack_before_fsync,
    "position reuse after a torn tail": positions_reused,
    "replaced disk under the same name": replaced_disk_unnoticed,
    "release before STORED": release_before_stored,
    "takeover of a living node": takeover_of_the_living,
    "unsynced bytes are trusted after a kill": unsynced_bytes_trusted,
    "large records of an older epoch stay": large_lane_forgotten,
    "peers keep what came on a given-up connection": peers_not_told_again,
    "STORED settles a withdrawal": stored_settles_withdrawals,
    "an unheard answer stands": unheard_answers_stand,
}
