"""Guarded writes of a publisher: every transaction names the META it was made for, and writes the next one.

Whoever was overtaken writes nothing. The digest is kept from what etcd itself held before: no publisher has to
remember what the one before it wrote.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from monitoring import log
from syncd import keys
from syncd.etcd import Etcd
from syncd.kv import MAX_OPERATIONS, MAX_WRITE_BYTES, Guard
from syncd.published import Meta, Point, Tally, Unreadable, element, read_meta

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


async def put(etcd: Etcd, at: Head, writes: Writes, point: Point) -> Head:
    """Write keys and, with the last of them, META's new point. Raises Overtaken, EtcdAway, EtcdRefused.

    More than one transaction can hold is split; until the last one META keeps the point it had.
    """
    parts = list(split(writes))
    for part in parts[:-1]:
        at = await _put(etcd, at, part, at.point)
    return await _put(etcd, at, parts[-1] if parts else {}, point)


async def _put(etcd: Etcd, at: Head, writes: Writes, point: Point) -> Head:
    before = await etcd.read([keys.META, *writes])
    was = {item.key: item for item in before.items}
    if (was[keys.META].revision if keys.META in was else 0) != at.revision:
        raise Overtaken
    tally = Tally(at.meta.digest, at.meta.count) if at.meta else Tally()
    for key, value in writes.items():
        old = was[key].value if key in was else None
        tally.change(
            None if old is None else element(key, old),
            None if value is None else element(key, value),
        )
    return await write(etcd, at, writes, Meta(*point, digest=tally.digest, count=tally.count))


async def write(etcd: Etcd, at: Head, writes: Writes, meta: Meta) -> Head:
    """One guarded transaction. Raises Overtaken, EtcdAway, EtcdRefused."""
    guards = [Guard(keys.META, at.revision)]
    revision = await etcd.write(guards, [*writes.items(), (keys.META, msgspec.json.encode(meta))])
    if revision is None:
        raise Overtaken
    return Head(meta, revision)


def split(writes: Writes) -> Iterator[dict[str, bytes | None]]:
    """Parts that one transaction can hold, in order."""
    part: dict[str, bytes | None] = {}
    size_bytes = 0
    for key, value in writes.items():
        added = len(key) + len(value or b"")
        if part and (len(part) >= MAX_OPERATIONS - 2 or size_bytes + added > MAX_WRITE_BYTES):
            yield part
            part, size_bytes = {}, 0
        part[key] = value
        size_bytes += added
    if part:
        yield part
