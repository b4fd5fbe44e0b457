"""The bytes of a journal's segment: self-proving entries to bytes, and a scan that tells sound from torn from damaged.

    file:   "MXSEGMT1" | epoch, 16 bytes | length of the node's name | name | CRC-32
    entry:  prefix | content (header, body) | end mark
    prefix: "MXrc" | what | kind | padding | position | id | lengths | CRC of the content | time | CRC of the prefix

Every CRC of a prefix begins with the epoch, which no sender of mail can know: a body that looks like an entry is none.
Pure but for reading the buffer that it is given.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from syncd.spool.messages import ID_BYTES, KIND_NUMBERS, KINDS, MAX_BODY_BYTES, MAX_HEADER_BYTES, Item
from syncd.spool.stream import Stream

Buffer = bytes | bytearray | memoryview

_MAGIC, _FILE_MAGIC = b"MXrc", b"MXSEGMT1"
_PREFIX = struct.Struct(f">4sBBxxQ{ID_BYTES}sIIId")
_CRC = struct.Struct(">I")
_END = struct.Struct(">4sI")
_END_MAGIC = b"MXen"
PREFIX_BYTES = _PREFIX.size + _CRC.size
END_BYTES = _END.size
_WINDOW_BYTES = 1 << 20


class What(IntEnum):
    """What an entry is."""

    RECORD = 1
    WITHDRAWN = 2
    """The record at this position was never answered as secured: it is not to be shipped."""


@dataclass(frozen=True, slots=True)
class Sound:
    """An entry that proves itself; `content` lies at `content_at`."""

    what: What
    item: Item
    content_at: int
    end: int


@dataclass(frozen=True, slots=True)
class Damaged:
    """Bytes that were something and are not sound."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Torn:
    """From here on nothing was ever finished: what a crash leaves of a last write."""

    start: int


class NotASegment(ValueError):
    """A file whose head cannot be read."""


def head(stream: Stream) -> bytes:
    """The first bytes of a segment's file."""
    name = stream.node.encode()
    start = _FILE_MAGIC + bytes.fromhex(stream.epoch) + bytes([len(name)]) + name
    return start + _CRC.pack(zlib.crc32(start))


def read_head(data: Buffer) -> tuple[Stream, int]:
    """The stream of a segment, and where its entries begin. Raises NotASegment."""
    start = bytes(data[:300])
    name_at = len(_FILE_MAGIC) + 17
    if not start.startswith(_FILE_MAGIC) or len(start) < name_at:
        raise NotASegment("it does not begin as a segment does")
    end = name_at + start[name_at - 1]
    if start[end : end + _CRC.size] != _CRC.pack(zlib.crc32(start[:end])):
        raise NotASegment("its head is damaged")
    name = start[name_at:end].decode(errors="replace")
    return Stream(name, start[len(_FILE_MAGIC) : name_at - 1].hex()), end + _CRC.size


def entry(seed: int, what: What, item: Item, content: bytes) -> list[bytes]:
    """The parts of an entry, to be written one behind the other; `seed` is that of its stream."""
    lengths = item.header_bytes, item.body_bytes
    prefix = _PREFIX.pack(_MAGIC, what, KIND_NUMBERS[item.kind], item.number, item.id, *lengths, item.crc, item.at)
    return [prefix + _CRC.pack(zlib.crc32(prefix, seed)), content, _END.pack(_END_MAGIC, item.number & 0xFFFFFFFF)]


def seed(stream: Stream) -> int:
    """What every CRC of a prefix of this stream begins with."""
    return zlib.crc32(bytes.fromhex(stream.epoch))


def scan(data: memoryview, start: int, stream_seed: int) -> Iterator[Sound | Damaged | Torn]:
    """Everything from `start` to the end of a segment, in order; a Torn is the last."""
    at, size = start, len(data)
    while at < size:
        item = _prefix(data, at, stream_seed)
        if item is None:
            next_at = _next_prefix(data, at + 1, stream_seed)
            if next_at is None:
                yield Torn(at) if _is_unfinished(data, at) else Damaged(at, size)
                return
            yield Damaged(at, next_at)
            at = next_at
            continue
        what, record = item
        length = record.content_bytes if what is What.RECORD else 0
        content_at = at + PREFIX_BYTES
        end = content_at + length + END_BYTES
        if end > size:
            yield from _short(data, at, stream_seed)
            return
        sound = _END.unpack_from(data, end - END_BYTES) == (_END_MAGIC, record.number & 0xFFFFFFFF)
        if sound and (what is What.WITHDRAWN or zlib.crc32(data[content_at : end - END_BYTES]) == record.crc):
            yield Sound(what, record, content_at, end)
        else:
            yield Damaged(at, end)
        at = end


def _short(data: memoryview, at: int, stream_seed: int) -> Iterator[Sound | Damaged | Torn]:
    """An entry that would end beyond the file: the last write, unless sound entries follow it."""
    next_at = _next_prefix(data, at + 1, stream_seed)
    if next_at is None:
        yield Torn(at)
        return
    yield Damaged(at, next_at)
    yield from scan(data, next_at, stream_seed)


def _prefix(data: memoryview, at: int, stream_seed: int) -> tuple[What, Item] | None:
    """What begins here; None when it is no prefix of this stream."""
    raw = data[at : at + PREFIX_BYTES]
    if len(raw) < PREFIX_BYTES or raw[:4] != _MAGIC:
        return None
    if _CRC.unpack_from(raw, _PREFIX.size)[0] != zlib.crc32(raw[: _PREFIX.size], stream_seed):
        return None
    _, what, kind, position, name, header_bytes, body_bytes, crc, written_at = _PREFIX.unpack_from(raw)
    if what not in (1, 2) or kind not in KINDS or header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
        return None
    return What(what), Item(position, KINDS[kind], name, header_bytes, body_bytes, crc, written_at)


def _next_prefix(data: memoryview, at: int, stream_seed: int) -> int | None:
    """Where the next prefix begins that proves itself."""
    while at < len(data):
        block = bytes(data[at : at + _WINDOW_BYTES])
        found = block.find(_MAGIC)
        while found >= 0:
            if _prefix(data, at + found, stream_seed):
                return at + found
            found = block.find(_MAGIC, found + 1)
        at += max(1, len(block) - len(_MAGIC) + 1)
    return None


def _is_unfinished(data: memoryview, at: int) -> bool:
    """Whether what is left can only be the beginning of an entry, or space that was never written."""
    left = len(data) - at
    return left < PREFIX_BYTES or (left <= _WINDOW_BYTES and not bytes(data[at:]).strip(b"\0"))
