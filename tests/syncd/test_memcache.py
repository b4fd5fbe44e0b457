"""memcached frozen, killed, poisoned, too small: costs time, never truth."""

import signal
import time

import pytest
from pymemcache.client.base import Client

from syncd.memcache import BREAKER_S, MAX_VALUE_BYTES, TIMEOUT_S, Answer, Memcache
from tests.servers import Memcached


class Clock:
    """A clock that is put forward by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(memcached: Memcached, clock: Clock) -> Memcache:
    return Memcache(memcached.socket, clock)


def test_a_value_comes_back_to_its_tenant_only(cache: Memcache) -> None:
    assert cache.get("n", "a.test") == (Answer.MISS, b"")
    assert cache.set("n", "a.test", b"value")
    assert cache.get("n", "a.test") == (Answer.HIT, b"value")
    assert cache.get("n", "b.test") == (Answer.JUNK, b"")


@pytest.mark.parametrize("poison", [b"", b"junk", b"x" * 16 + b"value", b"\x00" * 40])
def test_poison_is_junk(cache: Memcache, memcached: Memcached, poison: bytes) -> None:
    cache.set("n", "a.test", b"value")
    Client("unix:" + memcached.socket).set("mxfleet:1:n", poison, noreply=False)
    assert cache.get("n", "a.test") == (Answer.JUNK, b"")


def test_a_value_under_another_name_is_junk(cache: Memcache, memcached: Memcached) -> None:
    cache.set("n", "a.test", b"value")
    raw = Client("unix:" + memcached.socket)
    raw.set("mxfleet:1:m", raw.get("mxfleet:1:n"), noreply=False)
    assert cache.get("m", "a.test") == (Answer.JUNK, b"")


def test_frozen_it_costs_one_timeout_a_second_and_answers_never_shift(
    cache: Memcache, memcached: Memcached, clock: Clock
) -> None:
    for name in ("a", "b"):
        cache.set(name, "t", name.encode())
    memcached.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert [cache.get("a", "t")[0] for _ in range(1000)] == [Answer.ERROR] * 1000
    assert not cache.set("a", "t", b"x")
    assert time.monotonic() - began < 4 * TIMEOUT_S
    memcached.send_signal(signal.SIGCONT)
    assert cache.get("b", "t")[0] is Answer.ERROR, "the breaker is still open"
    clock.now += BREAKER_S
    assert cache.get("b", "t") == (Answer.HIT, b"b")
    assert cache.get("a", "t") == (Answer.HIT, b"a")


def test_killed_and_restarted_it_is_empty_and_used_again(cache: Memcache, memcached: Memcached, clock: Clock) -> None:
    cache.set("n", "t", b"1")
    memcached.kill()
    assert cache.get("n", "t")[0] is Answer.ERROR
    memcached.start()
    clock.now += BREAKER_S
    assert cache.get("n", "t")[0] is Answer.MISS
    assert cache.set("n", "t", b"2")
    assert cache.get("n", "t") == (Answer.HIT, b"2")


def test_what_is_too_large_is_not_stored(cache: Memcache) -> None:
    assert cache.set("n", "t", bytes(MAX_VALUE_BYTES))
    assert not cache.set("m", "t", bytes(MAX_VALUE_BYTES + 1))
    assert cache.get("m", "t")[0] is Answer.MISS


def test_without_a_memcached_nothing_is_raised(clock: Clock) -> None:
    cache = Memcache("/nowhere/socket", clock)
    assert cache.get("n", "t") == (Answer.ERROR, b"")
    assert not cache.set("n", "t", b"1")
    cache.close()
