"""The resolver's memory: time to live, bounds of bytes, what leaves first."""

import pytest

from mx.checks.dns_cache import ENTRY_BYTES, MAX_NEGATIVE_TTL_S, MAX_TTL_S, MIN_TTL_S, Answer, Cache


@pytest.mark.parametrize(
    ("values", "ttl_s", "kept_s"),
    [
        (("192.0.2.1",), 60, 60),
        (("192.0.2.1",), 0, MIN_TTL_S),
        (("192.0.2.1",), 10**9, MAX_TTL_S),
        ((), 60, 60),
        ((), 86400, MAX_NEGATIVE_TTL_S),
    ],
)
def test_an_answer_is_true_for_its_time(values: tuple[str, ...], ttl_s: float, kept_s: float) -> None:
    cache = Cache()
    cache.put(("A", "x.test"), Answer(values, ttl_s), now=100.0)
    assert cache.get(("A", "x.test"), 100.0 + kept_s - 0.001) == values
    assert cache.get(("TXT", "x.test"), 100.0) is None
    assert cache.get(("A", "x.test"), 100.0 + kept_s) is None
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_the_least_recently_used_answers_leave_when_the_bytes_are_spent() -> None:
    cache = Cache(max_bytes=10 * ENTRY_BYTES)
    for n in range(100):
        cache.put(("A", f"{n}"), Answer((), 60), 0.0)
        assert cache.get(("A", "0"), 0.0) == (), "it is used again and again"
        assert cache.size_bytes <= 10 * ENTRY_BYTES
    assert cache.get(("A", "50"), 0.0) is None
    assert cache.get(("A", "99"), 0.0) == ()


def test_one_huge_answer_does_not_stay() -> None:
    cache = Cache(max_bytes=10 * ENTRY_BYTES)
    cache.put(("TXT", "x"), Answer((b"x" * 60000,), 60), 0.0)
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_an_answer_replaces_the_former_one() -> None:
    cache = Cache()
    cache.put(("MX", "x"), Answer(((10, "a.test"),), 60), 0.0)
    size = cache.size_bytes
    cache.put(("MX", "x"), Answer(((10, "b.test"),), 60), 0.0)
    assert (cache.get(("MX", "x"), 1.0), cache.size_bytes, len(cache)) == (((10, "b.test"),), size, 1)
