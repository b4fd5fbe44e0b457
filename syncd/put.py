"""Guarded writes of a publisher: every transaction names the META it was made for, and writes the next one.

Whoever was overtaken writes nothing. META's digest is that of what PostgreSQL says, carried from change to change: it
never takes in what somebody wrote into etcd by hand.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec

from monitoring import log
from syncd import keys
from syncd.etcd import Etcd
from syncd.kv import MAX_OPERATIONS, MAX_WRITE_BYTES, Guard
from syncd.outbox import Row
from syncd.published import HASH_CHARS, Meta, Point, Tally, Unreadable, element, read_meta

MAX_WRITES = MAX_OPERATIONS - 2
"""In one transaction, beside META."""

Writes = Mapping[str, bytes | None]
"""Values as they stand in etcd, by key; None deletes."""

_log = log.get(__name__)


class Overtaken(Exception):
    """Somebody else wrote META since it was read: read it again."""


@dataclass(frozen=True, slots=True)
class Head:
    """META as it stands, and etcd's revision of its last write (0: it does not exist)."""

    meta: Meta | None
    revision: int

    @property
    def point(self) -> Point:
        """How far etcd is; (0, 0) when nothing is there."""
        return self.meta.point if self.meta else (0, 0)

    @property
    def stamp(self) -> int:
        """When that was committed; 0 when that is not known."""
        return self.meta.stamp if self.meta else 0


async def head(etcd: Etcd) -> Head:
    """META now; one that cannot be read is none. Raises EtcdAway."""
    found = await etcd.get(keys.META)
    for item in found.items:
        try:
            return Head(read_meta(item.value or b""), item.revision)
        except Unreadable as error:
            _log.error("meta_unreadable", error=str(error))
            return Head(None, item.revision)
    return Head(None, 0)


async def put(etcd: Etcd, at: Head, writes: Writes, before: Mapping[str, bytes], point: Point, stamp: int = 0) -> Head:
    """Write keys and META's new point in one transaction; `before` has the values of those keys that existed.

    Raises Overtaken, EtcdAway, EtcdRefused.
    """
    return await write(etcd, at, writes, meta_after(at.meta or Meta(), writes, before, point, stamp))


def meta_after(meta: Meta, writes: Writes, before: Mapping[str, bytes], point: Point, stamp: int) -> Meta:
    """META when these writes are done."""
    tally = Tally(meta.digest, meta.count)
    for key, value in writes.items():
        tally.change(_element(key, before.get(key)), _element(key, value))
    return Meta(*point, digest=tally.digest, count=tally.count, stamp=stamp)


async def write(etcd: Etcd, at: Head, writes: Writes, meta: Meta) -> Head:
    """One guarded transaction. Raises Overtaken, EtcdAway, EtcdRefused."""
    guards = [Guard(keys.META, at.revision)]
    revision = await etcd.write(guards, [*writes.items(), (keys.META, msgspec.json.encode(meta))])
    if revision is None:
        raise Overtaken
    return Head(meta, revision)


def fitting(rows: Sequence[Row]) -> list[Row]:
    """The first whole revisions that one transaction can hold; none when not even the first one fits.

    A transaction never ends amid a revision: META says where etcd is, and there is no word for "half way".
    """
    taken: list[Row] = []
    size_bytes = 0
    for _, group in groupby(rows, key=lambda row: row.revision):
        revision = list(group)
        size_bytes += sum(len(row.key) + len(row.value or b"") + HASH_CHARS for row in revision)
        if len(taken) + len(revision) > MAX_WRITES or size_bytes > MAX_WRITE_BYTES:
            break
        taken += revision
    return taken


def split(writes: Writes) -> Iterator[dict[str, bytes | None]]:
    """Parts that one transaction can hold, in order; for what may be seen half done: shards that no key names yet."""
    part: dict[str, bytes | None] = {}
    size_bytes = 0
    for key, value in writes.items():
        added = len(key) + len(value or b"")
        if part and (len(part) >= MAX_WRITES or size_bytes + added > MAX_WRITE_BYTES):
            yield part
            part, size_bytes = {}, 0
        part[key] = value
        size_bytes += added
    if part:
        yield part


def _element(key: str, value: bytes | None) -> bytes | None:
    return None if value is None else element(key, value)
