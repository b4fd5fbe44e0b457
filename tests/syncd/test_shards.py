"""Long lists: whatever is put in is found, nothing else is, and no shard outgrows what etcd and memcached take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd import shards
from syncd.layers import Shards

KEYS = st.text(st.characters(blacklist_characters="\t\n", blacklist_categories=("Cs",)), min_size=1, max_size=12)
LISTS = st.dictionaries(KEYS, st.sampled_from([b"{}", b'{"id":"1"}', b"\x7b \x7d"]), max_size=60)


@given(LISTS, KEYS)
def test_a_key_is_found_if_and_only_if_it_is_there(lines: dict[str, bytes], other: str) -> None:
    listed, bodies = shards.build(lines)
    assert listed.count == len(lines)
    for key in {*lines, other, "\t", "a\nb"}:
        assert shards.find(listed, key, bodies.__getitem__) == lines.get(key)


def test_a_list_of_any_length_is_cut_into_small_shards_and_one_change_rewrites_one() -> None:
    lines = {f"user{number}@some-domain-{number % 97}.example": b'{"id":"x"}' for number in range(50_000)}
    listed, bodies = shards.build(lines)
    assert max(map(len, bodies.values())) <= shards.SHARD_BYTES
    changed, _ = shards.build({**lines, "user7@some-domain-7.example": b'{"id":"y"}'})
    assert sum(a != b for a, b in zip(listed.hashes, changed.hashes, strict=True)) == 1


def test_a_shard_that_is_not_here_is_not_an_empty_one() -> None:
    listed, _ = shards.build({"a": b"{}"})
    with pytest.raises(KeyError):
        shards.find(listed, "a", {}.__getitem__)
    assert shards.find(Shards(), "a", {}.__getitem__) is None


@pytest.mark.parametrize("key", ["a\tb", "a\nb"])
def test_a_key_that_would_break_a_line_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="tab or newline"):
        shards.build({key: b"{}"})
