"""What stands in etcd: the form of each value, META beside them, and the digest that proves two stores equal.

A settings value is the digest of its canonical bytes (32 hex characters) and those bytes; a shard is its bytes, named
by their digest. META's digest is the XOR of `element` over every settings and shard key, so that each writer and
reader keeps it up to date in O(1) a change: same revision, same digest, same content.
"""

import hashlib

import msgspec

from syncd import keys
from syncd.layers import Shards, digest

HASH_CHARS = 32
ELEMENT_BYTES = 16
NOTHING = bytes(ELEMENT_BYTES)
"""The element of a key that is not there, and the digest of an empty store."""

Point = tuple[int, int]
"""(generation, revision). Generations rise when PostgreSQL or etcd was restored; pairs are compared everywhere."""


class Unreadable(ValueError):
    """A value that is not what it says it is, or that our declarations cannot read."""


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was published last. `generation` 0: nothing whole yet, a publisher is at its first fill.

    `stamp`: when `revision` was committed, in µs of PostgreSQL's clock; 0 when that is not known. Of a database that
    was restored the same revision has another one. `filling`: a publisher is amid making the keys beside it another
    revision; `digest` is that of what is there just now.
    """

    generation: int = 0
    revision: int = 0
    digest: str = NOTHING.hex()
    count: int = 0
    stamp: int = 0
    filling: bool = False

    @property
    def point(self) -> Point:
        """For comparing."""
        return self.generation, self.revision

    @property
    def is_whole(self) -> bool:
        """Whether the keys beside it are all of some revision."""
        return self.generation > 0 and not self.filling


class Tally:
    """A running digest and count over keys."""

    def __init__(self, digest_hex: str = NOTHING.hex(), count: int = 0) -> None:
        self._digest = int(digest_hex, 16)
        self.count = count

    @property
    def digest(self) -> str:
        """In hex, as META has it."""
        return f"{self._digest:032x}"

    def change(self, old: bytes | None, new: bytes | None) -> None:
        """Take an element out, another in; None for a key that is not there."""
        for each, step in ((old, -1), (new, 1)):
            if each is not None:
                self._digest ^= int.from_bytes(each, "big")
                self.count += step


def element(key: str, value: bytes) -> bytes:
    """What one key adds to the digest."""
    return hashlib.blake2b(key.encode() + b"\0" + value, digest_size=ELEMENT_BYTES).digest()


def sealed(canonical: bytes) -> bytes:
    """A settings value as it stands in etcd."""
    return digest(canonical).encode() + canonical


def opened(key: str, value: bytes) -> bytes:
    """The bytes that a value was sealed around; a shard's own. Raises Unreadable when they are not what was sealed."""
    if key.startswith(keys.SHARDS):
        if keys.shard(digest(value)) != key:
            raise Unreadable("its bytes are not those it is named by")
        return value
    body = value[HASH_CHARS:]
    if digest(body).encode() != value[:HASH_CHARS]:
        raise Unreadable("its digest is not that of its bytes")
    return body


def read_meta(value: bytes) -> Meta:
    """Raises Unreadable."""
    try:
        return msgspec.json.decode(value, type=Meta)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"META: {error}") from error


class _Naming(msgspec.Struct):
    entries: Shards = Shards()
    recipients: Shards | None = None


def shards_named(canonical: bytes) -> tuple[str, ...]:
    """Names of the shards that a layer needs. Raises Unreadable."""
    try:
        layer = msgspec.json.decode(canonical, type=_Naming)
    except msgspec.MsgspecError as error:
        raise Unreadable(str(error)) from error
    return (*layer.entries.hashes, *(layer.recipients.hashes if layer.recipients else ()))
