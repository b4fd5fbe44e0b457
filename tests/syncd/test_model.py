"""The model of settings sync, short: seeds, a state machine that shrinks what it finds, and faults it has to find.

The long form is `make model-sync`. What is simulated is said in `tests/syncd/model`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from control import receipts
from syncd import compare, follow, publish, reconcile
from syncd.published import Meta, element, read_meta
from tests.syncd.model import quiet
from tests.syncd.model.runs import ACTS, run, small
from tests.syncd.model.world import World


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    quiet()
    with small():
        yield
    structlog.configure(**before)


@pytest.mark.parametrize("seed", range(5))
def test_the_promises_hold_whatever_befalls(seed: int) -> None:
    counts = run(seed, 4_000)
    assert counts["healed"] == 2
    assert counts["applied"] > 20, "changes are called applied, so that a false one could be seen"


class Fleet(RuleBasedStateMachine):
    """Every act of the model as a rule; at the end everything heals."""

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        """A fresh world."""
        self.world = World(seed)

    def teardown(self) -> None:
        """Everybody comes to the same end."""
        self.world.heal()
        self.world.end()


def _rule(act: Callable[[World], Any], times: int) -> Callable[[Fleet], None]:
    def do(self: Fleet) -> None:
        for _ in range(times):
            self.world.now += 0.1
            act(self.world)

    do.__name__ = act.__name__
    return do


for _act, _weight in ACTS.items():
    setattr(Fleet, _act.__name__, rule()(_rule(_act, max(1, _weight // 100))))

TestFleet = pytest.mark.timeout(120)(Fleet.TestCase)
TestFleet.settings = settings(
    max_examples=20, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def _unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.syncd.model.etcd.SimulatedEtcd.is_guarded", False)


def _stampless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "_came_after", lambda published, target: True)


def _any_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stamps are not looked at."""
    real = reconcile.publish

    def decide(meta: Any, counter: Any, *, gapless: bool, stamp: int) -> reconcile.Step:
        return real(meta, counter, gapless=gapless)

    monkeypatch.setattr(reconcile, "publish", decide)
    monkeypatch.setattr(publish, "_is_other", lambda row, head: row.generation != head.point[0])


def _mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meta, "is_whole", property(lambda self: self.generation > 0))


def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A revision without META is followed."""
    real = reconcile.take

    def take(have: Any, items: Any) -> Any:
        step = real(have, items)
        if isinstance(step, reconcile.Apply):
            step.changes.update({item.key: item.value for item in items if item.key != "/mxfleet/meta"})
        return step

    monkeypatch.setattr(reconcile, "take", take)


def _blind_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever value a wanted key has is taken for the right one."""
    real = compare._compare_key

    def compare_key(found: Any, key: str, value: bytes, wanted: dict[str, bytes | None]) -> None:
        if key in wanted:
            wanted[key] = element(key, value)
        real(found, key, value, wanted)

    monkeypatch.setattr(compare, "_compare_key", compare_key)


def _steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that is behind is loaded all the same."""
    real = reconcile.begin

    def begin(have: Any, source: Any, doubt: Any = None) -> Any:
        step = real(have, source, doubt)
        is_behind = isinstance(step, reconcile.Keep) and "behind" in step.why
        return reconcile.Load("back") if is_behind else step

    monkeypatch.setattr(reconcile, "begin", begin)
    monkeypatch.setattr(follow, "_meta_of", lambda page, have: read_meta(page.values()["/mxfleet/meta"]))


@pytest.mark.parametrize(
    "fault", [_unguarded, _stampless, _any_database, _mixture, _by_hand, _blind_compare, _steps_back]
)
def test_the_model_finds(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        _run_seeds(40)


def _run_seeds(count: int) -> None:
    for seed in range(count):
        run(seed, 4_000)
