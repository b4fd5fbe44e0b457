"""The full compare of a publisher: what etcd holds against what PostgreSQL says, and the writes that make them one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from monitoring import log
from syncd import keys
from syncd.etcd import Etcd
from syncd.kv import PAGE, after
from syncd.layers import digest
from syncd.outbox import Outbox
from syncd.published import Meta, Point, Tally, Unreadable, element, sealed, shards_named
from syncd.put import Head, Overtaken, split, write

SHARD_PAGE = 64
AT_ONCE = 100
"""Keys whose values are fetched for writing at once."""

_log = log.get(__name__)


@dataclass(slots=True)
class Difference:
    """What has to be written, shards first. `found` has the elements of keys that etcd holds and should not hold so."""

    missing: list[str] = field(default_factory=list)
    found: dict[str, bytes] = field(default_factory=dict)
    surplus: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    """Of all that etcd holds now."""

    @property
    def is_garbage_only(self) -> bool:
        """Whether there is nothing but shards that no key names."""
        return not self.missing and all(key.startswith(keys.SHARDS) for key in self.surplus)

    def is_drift(self, meta: Meta) -> bool:
        """Whether etcd is not what its META says, or not what PostgreSQL says; shards too many are only garbage."""
        return not self.is_garbage_only or (self.tally.digest, self.tally.count) != (meta.digest, meta.count)


async def compare(etcd: Etcd, outbox: Outbox, at: Head, upto: int) -> Difference:
    """What differs between etcd, as it was at `at`, and the outbox at a revision.

    Raises Overtaken when META is another one by now; EtcdAway, DatabaseAway.
    """
    wanted = await _wanted(outbox, upto)
    found = Difference()
    revision = 0
    for prefix, page in ((keys.SHARDS, SHARD_PAGE), (keys.SETTINGS, PAGE)):
        async for each in etcd.pages(prefix, after(prefix), revision=revision, page=page):
            revision = each.revision
            for key, value in each.values().items():
                _compare_key(found, key, value, wanted)
    now = (await etcd.get(keys.META, revision=revision)).items if revision else ()
    if (now[0].revision if now else 0) != at.revision:
        raise Overtaken
    found.missing = sorted(wanted, key=lambda key: not key.startswith(keys.SHARDS))
    return found


def _compare_key(found: Difference, key: str, value: bytes, wanted: dict[str, bytes | None]) -> None:
    """Take a key off what is wanted, if its value is the wanted one; whatever stays there is missing."""
    hashed = element(key, value)
    found.tally.change(None, hashed)
    if key not in wanted:
        found.surplus.append(key)
    elif wanted[key] == hashed or (wanted[key] is None and keys.shard(digest(value)) == key):
        del wanted[key]
        return
    found.found[key] = hashed


async def _wanted(outbox: Outbox, upto: int) -> dict[str, bytes | None]:
    """Element of every key there should be; None for shards."""
    wanted: dict[str, bytes | None] = {}
    async for key, value in outbox.truth(upto):
        wanted[key] = element(key, sealed(value))
        wanted.update(dict.fromkeys(map(keys.shard, named(key, value))))
    return wanted


def named(key: str, canonical: bytes) -> tuple[str, ...]:
    """The shards a value names; none for one that cannot be read, which nodes will report."""
    try:
        return shards_named(canonical)
    except Unreadable as error:
        _log.error("unreadable_in_outbox", key=key, error=str(error))
        return ()


async def republish(etcd: Etcd, outbox: Outbox, at: Head, point: Point, found: Difference) -> Head:
    """Make etcd what the outbox is at `point`. Raises Overtaken, EtcdAway, DatabaseAway.

    In one transaction where that holds it. Else shards, then what names them, then away with the rest; until the last
    one META keeps the point it had and says that etcd is being filled, so that nobody takes a mixture for a revision.
    """
    final = Meta(*point, stamp=await outbox.stamp(point[1]))
    if len(found.missing) + len(found.surplus) <= AT_ONCE:
        writes = {**await _values(outbox, found.missing, point[1]), **dict.fromkeys(found.surplus)}
        if len(list(split(writes))) <= 1:
            return await _write(etcd, at, writes, final, found)
    meantime = msgspec.structs.replace(at.meta or Meta(), filling=not found.is_garbage_only)
    for names in (found.missing, found.surplus):
        for chunk in _chunks(names):
            writes = await _values(outbox, chunk, point[1]) if names is found.missing else dict.fromkeys(chunk)
            for part in split(writes):
                at = await _write(etcd, at, part, meantime, found)
    return await _write(etcd, at, {}, final, found)


async def _values(outbox: Outbox, names: Sequence[str], upto: int) -> dict[str, bytes | None]:
    """Values of keys, as they are to stand in etcd, shards first."""
    shards = [key.removeprefix(keys.SHARDS) for key in names if key.startswith(keys.SHARDS)]
    settings = [key for key in names if not key.startswith(keys.SHARDS)]
    bodies = await outbox.shards(shards) if shards else {}
    values = await outbox.values(settings, upto) if settings else {}
    return {
        **{keys.shard(name): body for name, body in bodies.items()},
        **{key: sealed(value) for key, value in values.items()},
    }


async def _write(etcd: Etcd, at: Head, writes: dict[str, bytes | None], meta: Meta, found: Difference) -> Head:
    for key, value in writes.items():
        found.tally.change(found.found.get(key), None if value is None else element(key, value))
    return await write(
        etcd, at, writes, msgspec.structs.replace(meta, digest=found.tally.digest, count=found.tally.count)
    )


def _chunks(names: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while chunk := list(islice(rest, AT_ONCE)):
        yield chunk
