"""The simulation in short: seeds hold every promise and are the same run each time; known mistakes are found."""

from collections.abc import Iterator

import pytest

from tests.syncd.spool.model.bugs import BUGS
from tests.syncd.spool.model.running import alone, run
from tests.syncd.spool.model.world import Broken

SEEDS = range(24)
KEPT_SEEDS = (34, 42, 185, 191, 1470, 1712, 2177, 4625, 6607)
"""Seeds that found something; most of what they found stands in `bugs`."""
FOUND_BY = {
    "ack before fsync": (0, 1),
    "position reuse after a torn tail": (37, 95),
    "replaced disk under the same name": (14, 40),
    "release before STORED": (44, 58),
    "takeover of a living node": (2, 10),
    "unsynced bytes are trusted after a kill": (1470,),
    "large records of an older epoch stay": (42,),
    "peers keep what came on a given-up connection": (34,),
    "STORED settles a withdrawal": (191,),
    "an unheard answer stands": (185,),
}


@pytest.fixture(autouse=True)
def by_themselves() -> Iterator[None]:
    """Abandoned processes are freed in peace."""
    with alone():
        yield


@pytest.mark.parametrize("seed", [*SEEDS, *KEPT_SEEDS])
def test_every_promise_holds(seed: int) -> None:
    counts = run(seed).counts
    assert counts["secured"] > 0


def test_a_seed_is_the_same_run_each_time() -> None:
    first, second = run(3), run(3)
    assert (first.steps, first.now, first.counts) == (second.steps, second.now, second.counts)
    assert list(first.stores.rows.items()) == list(second.stores.rows.items())


@pytest.mark.parametrize("bug", BUGS)
def test_a_known_mistake_is_found(bug: str) -> None:
    for seed in FOUND_BY[bug]:
        try:
            run(seed, BUGS[bug]())
        except Broken:
            return
    pytest.fail(f"{bug} was not found by the seeds that had found it")
