"""The full compare of a publisher: what etcd holds against what PostgreSQL says, and the writes that make them one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

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
    """What has to be written. `found` has the elements of keys that etcd holds and should not hold so."""

    missing: list[str] = field(default_factory=list)
    found: dict[str, bytes] = field(default_factory=dict)
    surplus: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    """Of all that etcd holds now."""

    def is_drift(self, meta: Meta) -> bool:
        """Whether etcd is not what its META says, or not what PostgreSQL says; shards too many are only garbage."""
        lost = any(not key.startswith(keys.SHARDS) for key in self.surplus)
        return bool(self.missing) or lost or (self.tally.digest, self.tally.count) != (meta.digest, meta.count)


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
    found.missing = list(wanted)
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
    """Make etcd what the outbox is at `point`: shards, then what names them, then away with the rest, META last.

    Until then META keeps the point it had; without one, it says that nothing is whole yet. Raises Overtaken.
    """
    shards = [key for key in found.missing if key.startswith(keys.SHARDS)]
    settings = [key for key in found.missing if not key.startswith(keys.SHARDS)]
    before = Meta(*at.point)
    for chunk in _chunks(shards):
        bodies = await outbox.shards([key.removeprefix(keys.SHARDS) for key in chunk])
        at = await _write(etcd, at, {keys.shard(name): body for name, body in bodies.items()}, before, found)
    for chunk in _chunks(settings):
        values = await outbox.values(chunk, point[1])
        at = await _write(etcd, at, {key: sealed(value) for key, value in values.items()}, before, found)
    for chunk in _chunks(found.surplus):
        at = await _write(etcd, at, dict.fromkeys(chunk), before, found)
    return await write(etcd, at, {}, Meta(*point, digest=found.tally.digest, count=found.tally.count))


async def _write(etcd: Etcd, at: Head, writes: dict[str, bytes | None], meta: Meta, found: Difference) -> Head:
    for part in split(writes):
        for key, value in part.items():
            found.tally.change(found.found.get(key), None if value is None else element(key, value))
        at = await write(etcd, at, part, Meta(meta.generation, meta.revision, found.tally.digest, found.tally.count))
    return at


def _chunks(names: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while chunk := list(islice(rest, AT_ONCE)):
        yield chunk
