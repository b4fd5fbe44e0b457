"""The decisions of followers and publishers, as tables."""

import msgspec
import pytest

from syncd import keys
from syncd.kv import Item
from syncd.published import Meta, Point, Tally, Unreadable, element, opened, sealed, shards_named
from syncd.receipts import Receipt, agrees
from syncd.reconcile import Apply, Cause, Keep, Load, Look, Resume, Source, Step, begin, publish, take
from syncd.status import Status

HAVE = Status(generation=1, revision=42, published=Status().digest, etcd_revision=1000, cluster=7, complete=True)
NEW = Status()
META = Meta(1, 42)


@pytest.mark.parametrize(
    ("have", "source", "doubt", "wanted"),
    [
        (HAVE, Source(META, 1000, 7), None, Resume(1001)),
        (HAVE, Source(Meta(1, 50), 1010, 7), None, Resume(1001)),
        (HAVE, Source(Meta(2, 1), 1010, 7), None, Resume(1001)),
        (NEW, Source(META, 1000, 7), None, Load("first")),
        (NEW, Source(None, 1, 7), None, Keep),
        (NEW, Source(Meta(), 5, 7), None, Keep),
        (HAVE, Source(None, 1000, 7), None, Keep),
        (HAVE, Source(Meta(), 1000, 7), None, Keep),
        (HAVE, Source(Meta(1, 43, filling=True), 1000, 7), None, Keep),
        (HAVE, Source(Meta(1, 41), 1000, 7), None, Keep),
        (HAVE, Source(Meta(1, 41), 1000, 7), "compacted", Keep),
        (HAVE, Source(META, 1000, 8), None, Load("cluster")),
        (HAVE, Source(META, 999, 7), None, Load("back")),
        (HAVE, Source(META, 1000, 7), "digest", Load("digest")),
        (msgspec.structs.replace(HAVE, published="0"), Source(META, 1000, 7), None, Load("digest")),
        (msgspec.structs.replace(HAVE, unreadable=("k",)), Source(META, 1000, 7), None, Load("unreadable")),
    ],
    ids=[
        "same", "etcd went on", "generation raised", "nothing here", "nothing anywhere", "first fill under way",
        "etcd emptied", "etcd being filled", "etcd being filled anew", "etcd behind", "behind and compacted",
        "another cluster",
        "etcd's revision went back", "in doubt", "another content than was published", "unreadable values",
    ],
)  # fmt: skip
def test_begin(have: Status, source: Source, doubt: Cause | None, wanted: object) -> None:
    found = begin(have, source, doubt)
    assert isinstance(found, wanted) if isinstance(wanted, type) else found == wanted


def at(number: int, meta: Meta | None = None, **changes: bytes | None) -> list[Item]:
    """Items of one revision of etcd."""
    items = [Item(key, value, number) for key, value in changes.items()]
    return items if meta is None else [*items, Item(keys.META, msgspec.json.encode(meta), number)]


@pytest.mark.parametrize(
    ("items", "wanted"),
    [
        (at(1001, Meta(1, 43), a=b"1"), Apply(Meta(1, 43), {"a": b"1"}, 1001, 0)),
        (
            at(1001, Meta(1, 43), a=b"1", b=b"1") + at(1002, Meta(1, 44), a=None),
            Apply(Meta(1, 44), {"a": None, "b": b"1"}, 1002, 0),
        ),
        (at(1001, Meta(1, 42), shard=b"1"), Apply(Meta(1, 42), {"shard": b"1"}, 1001, 0)),
        (at(1001, a=None, b=b"x"), Apply(None, {}, 1001, 2)),
        (at(1001, a=b"x") + at(1002, Meta(1, 43), b=b"1"), Apply(Meta(1, 43), {"b": b"1"}, 1002, 1)),
        ([*at(1001, a=None), Item(keys.META, None, 1001)], Look()),
        (at(1001, Meta(1, 41), a=b"1"), Look()),
        (at(1001, Meta(0, 0), a=b"1"), Look()),
        (at(1001, Meta(1, 43, filling=True), a=b"1"), Look()),
        (at(1001, Meta(1, 44)) + at(1002, Meta(1, 43)), Look()),
        (at(1001, Meta(2, 1), a=b"1"), Apply(Meta(2, 1), {"a": b"1"}, 1001, 0)),
    ],
    ids=[
        "one revision", "two at once", "a shard before its key", "nobody's", "nobody's, then a publisher's",
        "all deleted", "META back", "META of a first fill", "META of a fill", "back within", "a new generation",
    ],
)  # fmt: skip
def test_take(items: list[Item], wanted: Apply | Look) -> None:
    assert take(HAVE, items) == wanted


def test_a_meta_that_cannot_be_read_is_not_followed() -> None:
    with pytest.raises(Unreadable):
        take(HAVE, [Item(keys.META, b"junk", 1001)])


@pytest.mark.parametrize(
    ("stamped", "stamp", "wanted"),
    [(70, 70, Step.DRAIN), (70, 71, Step.STOP), (70, 0, Step.DRAIN), (0, 71, Step.DRAIN)],
    ids=["the same database", "restored and counted on", "trimmed", "published before stamps"],
)
def test_a_database_that_counted_on_after_a_restore_is_told_by_its_stamp(
    stamped: int, stamp: int, wanted: Step
) -> None:
    assert publish(Meta(1, 5, stamp=stamped), (1, 9), gapless=True, stamp=stamp) is wanted
    assert publish(Meta(1, 5, stamp=stamped), (2, 9), gapless=True, stamp=stamp) is Step.REPUBLISH, "this is meant"


@pytest.mark.parametrize(
    ("meta", "counter", "gapless", "wanted"),
    [
        (None, (1, 0), True, Step.REPUBLISH),
        (Meta(filling=True), (1, 5), True, Step.REPUBLISH),
        (Meta(1, 5, filling=True), (1, 5), True, Step.REPUBLISH),
        (Meta(1, 6, filling=True), (1, 5), True, Step.STOP),
        (Meta(1, 5), (1, 5), True, Step.DRAIN),
        (Meta(1, 3), (1, 5), True, Step.DRAIN),
        (Meta(1, 3), (1, 5), False, Step.REPUBLISH),
        (Meta(1, 3), (2, 3), True, Step.REPUBLISH),
        (Meta(1, 9), (2, 3), True, Step.REPUBLISH),
        (Meta(1, 6), (1, 5), True, Step.STOP),
        (Meta(2, 1), (1, 5), True, Step.STOP),
    ],
)
def test_publish(meta: Meta | None, counter: Point, gapless: bool, wanted: Step) -> None:
    assert publish(meta, counter, gapless=gapless) is wanted


TOLD = Receipt(node="mx1", generation=1, revision=42, digest="d", state="live", at=0.0, unreadable=("bad",))


@pytest.mark.parametrize(
    ("told", "wanted", "published", "key", "is_applied"),
    [
        (TOLD, (1, 42), "d", "k", True),
        (TOLD, (1, 41), "d", "k", True),
        (TOLD, (1, 43), "d", "k", False),
        (TOLD, (2, 1), "d", "k", False),
        (TOLD, (0, 1), "d", "k", False),
        (TOLD, (1, 42), "e", "k", False),
        (TOLD, (1, 42), None, "k", False),
        (TOLD, (1, 42), "d", "bad", False),
        (msgspec.structs.replace(TOLD, state="stale"), (1, 42), "d", "k", False),
        (None, (1, 42), "d", "k", False),
    ],
    ids=[
        "applied", "further", "not yet", "before a restore", "after a restore", "another content",
        "not known what was published",
        "cannot read it", "not live", "not heard",
    ],
)  # fmt: skip
def test_agrees(told: Receipt | None, wanted: Point, published: str | None, key: str, is_applied: bool) -> None:
    assert agrees(told, wanted, published, key) is is_applied


def test_the_digest_depends_on_content_and_not_on_order() -> None:
    one, two = element("a", b"1"), element("b", b"2")
    forth, back = Tally(), Tally()
    forth.change(None, one)
    forth.change(None, two)
    back.change(None, two)
    back.change(None, element("a", b"0"))
    back.change(element("a", b"0"), one)
    assert (forth.digest, forth.count) == (back.digest, back.count)
    forth.change(one, None)
    forth.change(two, None)
    assert (forth.digest, forth.count) == (Tally().digest, 0)
    assert element("a", b"b") != element("ab", b"")


@pytest.mark.parametrize("value", [b"", b"short", b"0" * 32 + b"{}", sealed(b"{}") + b" ", sealed(b"{}")[:-1]])
def test_a_value_that_is_not_what_was_sealed_is_unreadable(value: bytes) -> None:
    with pytest.raises(Unreadable):
        opened(keys.SYSTEM, value)
    with pytest.raises(Unreadable):
        opened(keys.shard("0" * 32), value)


def test_the_shards_of_a_layer_are_named() -> None:
    assert shards_named(b'{"entries":{"hashes":["a"]},"recipients":{"hashes":["b","c"]},"other":1}') == ("a", "b", "c")
    assert shards_named(b"{}") == ()
    with pytest.raises(Unreadable):
        shards_named(b"junk")
