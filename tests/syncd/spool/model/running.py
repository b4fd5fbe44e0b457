"""Runs the simulation by seed, with the product's clocks, disks, identities and members replaced for its duration."""

import asyncio
import gc
import random
import shutil
import sys
import tempfile
import types
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from syncd.spool import (
    client,
    hold,
    journal,
    link,
    members,
    messages,
    node,
    origin,
    receive,
    recover,
    serve,
    submit,
    takeover,
    writer,
)
from syncd.spool.identity import node_uri
from syncd.spool.link import Target
from syncd.spool.room import Room
from tests.syncd.spool.model.world import NODES, PORT, Broken, World

TIMED = (client, hold, journal, link, node, origin, receive, serve, submit, takeover)
LOGGING = (client, hold, journal, link, members, node, origin, receive, recover, serve, submit, takeover, writer)
LARGE_BYTES = 600
"""So that both lanes are used by records of a few bytes."""
SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A directory in memory: these disks are cut by the simulation, never by the machine."""
COLLECT_EVERY = 25
PIECE = 100
"""Seeds of one process, and of one line of the results."""
EPOCH_1 = 1_700_000_000.0


class Identity:
    """Who a process is; its connections show it."""

    def __init__(self, tls: Any) -> None:
        self.server = self.client = types.SimpleNamespace(uri=tls.cert)

    def refresh(self) -> bool:
        """Nothing changes."""
        return False


class Members:
    """Every node knows every other."""

    def __init__(self, name: str, state_dir: str) -> None:
        self._peers = tuple(Target(peer, peer, PORT, node_uri(peer)) for peer in NODES if peer != name)

    def peers(self) -> tuple[Target, ...]:
        """The others."""
        return self._peers

    def look(self) -> None:
        """They are known."""

    async def follow(self) -> None:
        """They stay."""


@contextmanager
def alone() -> Iterator[None]:
    """Around runs: abandoned processes are freed between seeds, where it disturbs none, and their last words (their
    loops are gone) are nobody's."""
    gc.disable()
    try:
        with mock.patch.object(sys, "unraisablehook"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
            _collect()
    finally:
        gc.enable()


def _collect() -> None:
    """Free what was abandoned. What ends leaves more that ends: a coroutine that awaits in its `finally`."""
    for _ in range(10):
        if not gc.collect():
            return


def run(seed: int, bug: AbstractContextManager[Any] | None = None, scratch: str | None = SCRATCH) -> World:
    """One seed, run to its end. Raises Broken with the seed in its text."""
    if seed % COLLECT_EVERY == 0:
        _collect()
    directory = Path(tempfile.mkdtemp(prefix="mxmodel", dir=scratch))
    world = World(seed, directory)
    try:
        with _simulated(world, seed), bug or nullcontext():
            try:
                world.run()
            except Broken as error:
                raise Broken(f"seed {seed}, {world.steps} steps, {world.now:.2f} s: {error}") from None
            finally:
                _abandon(world)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return world


class _InOrder(dict[Any, None]):
    """A set that is gone through in the order of its making, not by address: the same in every process."""

    def add(self, task: Any) -> None:
        """As of a set."""
        self[task] = None

    def discard(self, task: Any) -> None:
        """As of a set."""
        self.pop(task, None)


_TASK_GROUP = asyncio.TaskGroup.__init__


def _ordered(group: asyncio.TaskGroup) -> None:
    _TASK_GROUP(group)
    group._tasks = _InOrder()  # type: ignore[assignment]


def piece(first: int) -> dict[str, Any]:
    """Run some seeds."""
    steps, counts, broken = 0, Counter[str](), list[str]()
    with alone():
        for seed in range(first, first + PIECE):
            try:
                world = run(seed)
            except Broken as error:
                broken.append(str(error))
                continue
            steps += world.steps
            counts.update(world.counts)
    return {"first": first, "seeds": PIECE, "steps": steps, "counts": dict(counts), "broken": broken}


@contextmanager
def _simulated(world: World, seed: int) -> Iterator[None]:
    clock = types.SimpleNamespace(
        monotonic=lambda: world.now, perf_counter=lambda: world.now, time=lambda: EPOCH_1 + world.now
    )
    names = types.SimpleNamespace(token_hex=lambda count: world.rng.randbytes(count).hex())
    quiet = mock.MagicMock()
    changes: list[tuple[Any, str, Any]] = [(module, "time", clock) for module in TIMED]
    changes += [(module, "_log", quiet) for module in LOGGING]
    changes += [(module, "secrets", names) for module in (node, client)]
    changes += [(module, "Identity", Identity) for module in (node, receive)]
    changes += [(module, "os", world.disk) for module in (writer, recover)]
    changes += [(module, "Room", partial(Room, min_free_bytes=0)) for module in (node, receive)]
    changes += [
        (node, "Members", Members),
        (submit, "_listening", lambda path: path),
        (messages, "LARGE_BYTES", LARGE_BYTES),
        (origin, "LOST_S", 1.0),
        (asyncio.TaskGroup, "__init__", _ordered),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in changes]
    state = random.getstate()
    random.seed(seed)
    for where, name, value in changes:
        setattr(where, name, value)
    try:
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)
        random.setstate(state)


def _abandon(world: World) -> None:
    """Let go of every process without a word: none of them is to do anything more."""
    loops = [*world.loops.values(), *world.dead]
    for loop in loops:
        loop.is_dead = True
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop._ready.clear()  # type: ignore[attr-defined]
        loop._scheduled.clear()  # type: ignore[attr-defined]
        loop.jobs.clear()
    for host in (*NODES, "q"):
        world.disk.stopped(host)
    world.loops.clear()
    world.dead.clear()
    world.spools.clear()
    world.listeners.clear()
    world._events.clear()
    world.receiver = None
