"""What happens in the model, and how often; runs of so many steps from a seed."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from syncd import compare, put
from tests.syncd.model.world import World

ACTS = {
    World.commit: 120,
    World.publish: 900,
    World.suspect: 150,
    World.follow: 1_500,
    World.report: 400,
    World.hear: 400,
    World.silence: 3,
    World.lose_answer: 40,
    World.crash_publisher: 15,
    World.crash_follower: 15,
    World.lose_disk: 1,
    World.restart_etcd: 5,
    World.compact: 10,
    World.snapshot: 10,
    World.restore_etcd: 2,
    World.restore_postgres: 1,
    World.raise_generation: 2,
    World.meddle: 4,
    World.fill: 2,
    World.join: 5,
    World.restart_panel: 2,
}
"""What happens, and how often."""


@contextmanager
def small() -> Iterator[None]:
    """Transactions of few keys, so that a publisher needs several where thousands of keys would."""
    before = compare.AT_ONCE, put.MAX_WRITES
    compare.AT_ONCE, put.MAX_WRITES = 2, 4
    try:
        yield
    finally:
        compare.AT_ONCE, put.MAX_WRITES = before


def run(seed: int, steps: int, *, heal_every: int = 2_000) -> Counter[str]:
    """Let `steps` things happen, healing now and then; returns what happened how often. Raises AssertionError."""
    world = World(seed)
    try:
        with small():
            return _run(world, steps, heal_every)
    finally:
        world.end()


def _run(world: World, steps: int, heal_every: int) -> Counter[str]:
    acts, weights = list(ACTS), list(ACTS.values())
    for number in range(1, steps + 1):
        world.now += world.chance.random() * 0.3
        act = world.chance.choices(acts, weights)[0]
        world.counts[act.__name__] += 1
        act(world)
        if number % heal_every == 0 or number == steps:
            world.heal()
    return world.counts
