"""Entries of a pack, as bytes: what stands before a mail's zstd frame, and how both are proven on reading. Pure.

An entry is a zstd *skippable frame* (RFC 8878 section 3.1.2) with the mail's transaction, lengths and SHA-256, and
behind it one ordinary zstd frame with the mail. A pack is nothing but such entries, so that any zstd tool unpacks it,
for ever, and a lost table of contents could be read again from the packs alone.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import zstandard

LEVEL = 3
"""Level 9 was measured to save 4 % of the size for four times the time."""
MAX_BODY_BYTES = 1 << 30
"""No length in a damaged entry makes a reader ask for more memory than this."""
_SKIPPABLE = 0x184D2A5D
_VERSION = 1
_HEAD = struct.Struct("<IIBIQ32s26s")
"""Magic, length of what follows it here, version, bytes of the zstd frame, bytes of the mail, SHA-256, transaction."""
_AFTER_LENGTH = _HEAD.size - 8


class Damaged(ValueError):
    """Bytes that are no entry, or not all of one."""


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before a mail."""

    frame_bytes: int
    body_bytes: int
    sha256: bytes
    txn: str

    @property
    def size(self) -> int:
        """Bytes of the whole entry."""
        return _HEAD.size + self.frame_bytes


class Press:
    """Compresses, with a dictionary or without. Not for two threads at once."""

    def __init__(self, dictionary: bytes = b"") -> None:
        known = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
        self._with = zstandard.ZstdCompressor(level=LEVEL, dict_data=known, write_checksum=True)
        self._plain = zstandard.ZstdCompressor(level=LEVEL)

    def entry(self, txn: str, body: bytes) -> bytes:
        """A mail as an entry. Raises ValueError for one beyond `MAX_BODY_BYTES`."""
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"a mail of {len(body)} bytes is larger than a pack takes")
        frame = self._with.compress(body)
        named = txn.encode("ascii", "replace")[:26].ljust(26)
        digest = hashlib.sha256(body).digest()
        return _HEAD.pack(_SKIPPABLE, _AFTER_LENGTH, _VERSION, len(frame), len(body), digest, named) + frame

    def text(self, data: bytes) -> bytes:
        """A record or a list of judgements for a column, without a dictionary."""
        return self._plain.compress(data)


def expanded(data: bytes, limit: int = 64 << 20) -> bytes:
    """What `Press.text` compressed. Raises Damaged, also for what would be longer than `limit`."""
    return _decompressed(data, limit, b"")


def head(data: bytes) -> Head:
    """The head that `data` begins with. Raises Damaged."""
    try:
        magic, length, version, frame_bytes, body_bytes, digest, txn = _HEAD.unpack_from(data)
    except struct.error as error:
        raise Damaged("the entry is cut") from error
    if (magic, length, version) != (_SKIPPABLE, _AFTER_LENGTH, _VERSION) or body_bytes > MAX_BODY_BYTES:
        raise Damaged("there is no entry here")
    return Head(frame_bytes, body_bytes, digest, txn.decode("ascii", "replace").rstrip())


def dictionary_id(entry: bytes) -> int:
    """Which dictionary the entry's mail needs; 0 for none. Raises Damaged."""
    try:
        return int(zstandard.get_frame_parameters(entry[_HEAD.size :]).dict_id)
    except zstandard.ZstdError as error:
        raise Damaged(f"no zstd frame: {error}") from error


def body(entry: bytes, dictionary: bytes = b"") -> bytes:
    """The mail of one whole entry, proven by its SHA-256. Raises Damaged."""
    found = head(entry)
    if len(entry) != found.size:
        raise Damaged(f"{len(entry)} bytes, the entry says {found.size}")
    mail = _decompressed(entry[_HEAD.size :], found.body_bytes, dictionary)
    if len(mail) != found.body_bytes or hashlib.sha256(mail).digest() != found.sha256:
        raise Damaged("the mail is not the one that was stored")
    return mail


def walk(pack: BinaryIO) -> Iterator[tuple[int, Head]]:
    """Every whole entry of a pack as (offset, head), from its beginning to its end or to what is no entry."""
    end = pack.seek(0, 2)
    offset = 0
    while offset < end:
        pack.seek(offset)
        try:
            found = head(pack.read(_HEAD.size))
        except Damaged:
            return
        if offset + found.size > end:
            return
        yield offset, found
        offset += found.size


def train(samples: Sequence[bytes], number: int, size: int = 112 * 1024) -> bytes:
    """A dictionary of this id (1 or more) for mail like the samples. Raises ValueError when they are too few."""
    try:
        return zstandard.train_dictionary(size, list(samples), dict_id=number, level=LEVEL).as_bytes()
    except zstandard.ZstdError as error:
        raise ValueError(f"no dictionary can be made of {len(samples)} mails: {error}") from error


def _decompressed(data: bytes, limit: int, dictionary: bytes) -> bytes:
    known = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    try:
        said = zstandard.frame_content_size(data)
        if said > limit:
            raise Damaged(f"would be {said} bytes, not {limit}")
        return zstandard.ZstdDecompressor(dict_data=known).decompress(data, max_output_size=max(1, limit))
    except (zstandard.ZstdError, MemoryError) as error:
        raise Damaged(f"no zstd frame: {error}") from error
