"""Long lists as immutable shards: sorted lines `key TAB json`, named by the hash of their bytes.

An entry is found by searching the sorted bytes, never by decoding the shard, so that a list of 200,000
recipients costs a reader nothing but the page it touches. A shard holds at most `SHARD_BYTES`, far
below what etcd (1.5 MiB a request) and memcached (1 MiB an item) take.
"""

import hashlib
from collections.abc import Callable, Mapping

from syncd.layers import Shards, digest

SHARD_BYTES = 256 * 1024


def bucket(key: str, count: int) -> int:
    """Which of `count` shards holds `key`."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % count


def build(lines: Mapping[str, bytes]) -> tuple[Shards, dict[str, bytes]]:
    """The shards of a list and their bodies by name. Keys may hold no tab or newline; values are JSON.

    The number of shards is a power of two, so that one changed entry rewrites one shard unless the
    list has outgrown its number.
    """
    if not lines:
        return Shards(), {}
    total = sum(len(key.encode()) + len(value) + 2 for key, value in lines.items())
    count = 1
    while total / count > SHARD_BYTES / 2:
        count *= 2
    buckets: list[list[bytes]] = [[] for _ in range(count)]
    for key in sorted(lines):
        if "\t" in key or "\n" in key:
            raise ValueError(f"a list key may hold no tab or newline: {key!r}")
        buckets[bucket(key, count)].append(key.encode() + b"\t" + lines[key])
    bodies = [b"\n" + b"\n".join(rows) + b"\n" for rows in buckets]
    hashes = tuple(digest(body) for body in bodies)
    return Shards(hashes=hashes, count=len(lines)), dict(zip(hashes, bodies, strict=True))


def find(shards: Shards, key: str, read: Callable[[str], bytes]) -> bytes | None:
    """The JSON of `key`, or None when the list does not have it.

    `read` returns the body of a shard by name and raises KeyError for one that is not here; that
    passes through, because a missing shard is "not known", never "not listed".
    """
    if not shards.hashes or "\t" in key or "\n" in key:
        return None
    return _search(read(shards.hashes[bucket(key, len(shards.hashes))]), key.encode())


def _search(body: bytes, wanted: bytes) -> bytes | None:
    """Binary search over the sorted lines: a sender is looked up by 40 keys a mail, an IPv6 client by 130.

    `low` and `high` are positions of newlines; the line, if it is there, begins behind one in [low, high).
    """
    low, high = 0, len(body) - 1
    while low < high:
        start = body.rfind(b"\n", low, (low + high) // 2 + 1)
        tab, end = body.index(b"\t", start), body.index(b"\n", start + 1)
        key = body[start + 1 : tab]
        if key == wanted:
            return bytes(body[tab + 1 : end])
        if key < wanted:
            low = end
        else:
            high = start
    return None
