"""What the frames of the spool protocol carry: typed messages to payloads and back. Pure.

Payloads of greetings are JSON, so that a newer minor version can add fields that an older one ignores; all else is
packed, for it is there once a record.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeVar

import msgspec

from syncd.spool.frames import CHUNK_BYTES, MAJOR, MINOR, BadFrame, Frame, Kind, encode
from syncd.spool.record import Kind as RecordKind
from syncd.spool.stream import Ranges

MAX_HEADER_BYTES = 8 * 1024 * 1024
MAX_BODY_BYTES = 256 * 1024 * 1024
ID_BYTES = 26
"""A ULID; shorter ids are padded with NUL."""
MAX_RANGES = CHUNK_BYTES // 16
"""The most ranges one frame names; more take more frames."""
LARGE_BYTES = 1_000_000
"""Content above this travels on the connection of the lane "large"."""
ANSWER_MARGIN_S = 0.05
"""A spool process answers so much before its worker gives up, so that both tell the same story."""

_ITEM = struct.Struct(f">QB{ID_BYTES}sIIId")
_NUMBER = struct.Struct(">Q")
_RANGE = struct.Struct(">QQ")
_OPENED = struct.Struct(f">{ID_BYTES}sI")
KIND_NUMBERS: dict[RecordKind, int] = {RecordKind.KEPT: 1, RecordKind.LATER: 2, RecordKind.EVENT: 3}
KINDS = {number: kind for kind, number in KIND_NUMBERS.items()}

Lane = Literal["small", "large"]


class Purpose(StrEnum):
    """What a connection is for."""

    WORKER = "worker"
    """A worker hands records to the spool process of its node."""
    OWN = "own"
    """An origin ships its own stream to the receiver."""
    COPY = "copy"
    """An origin gives a peer a second copy to hold."""
    TAKEOVER = "takeover"
    """A peer ships to the receiver what it holds of an origin that is gone."""


class Code(StrEnum):
    """Why a side ends a connection, for programs; words for people stand beside it."""

    VERSION = "version"
    FORBIDDEN = "forbidden"
    """Not this peer's stream, or not this side's role."""
    CONFLICT = "conflict"
    """A position that is known with another id: two writers of one epoch, or a damaged one."""
    FULL = "full"
    PROTOCOL = "protocol"
    AGAIN = "again"
    """Connect again: what this side holds has changed."""
    ENDING = "ending"


class Hello(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first words of the side that connects."""

    purpose: Purpose
    node: str = ""
    """Of the stream, with `epoch`; a worker names its node."""
    epoch: str = ""
    lane: Lane = "small"
    holders: tuple[str, ...] = ()
    """Who else may hold copies of this stream, as the origin sees it."""
    instance: str = ""
    """A worker's own random name: tells one that reconnects from another."""
    major: int = MAJOR
    minor: int = MINOR


class Welcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer: what this side has of the stream. Further ranges may follow as HELD and STORED frames."""

    held: Ranges = ()
    stored: Ranges = ()
    major: int = MAJOR
    minor: int = MINOR


class Farewell(msgspec.Struct, frozen=True):
    """The last words of a side that ends: REFUSE in place of a welcome or over a record, BYE otherwise."""

    code: Code
    words: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """What stands before a record's content on every wire and disk: enough to check the content."""

    number: int
    """The position in its stream; on a worker's connection the submission's number."""
    kind: RecordKind
    id: bytes
    header_bytes: int
    body_bytes: int
    crc: int
    """CRC-32 of the content, which is the header and behind it the body."""
    at: float
    """Unix time of the submission. In a SUBMIT frame the last moment to answer it, by this host's CLOCK_MONOTONIC: what
    lay in the socket of a frozen process is known to be late when it is read."""

    @property
    def content_bytes(self) -> int:
        """Length of header and body."""
        return self.header_bytes + self.body_bytes

    @property
    def lane(self) -> Lane:
        """The connection it belongs to."""
        return "large" if self.content_bytes > LARGE_BYTES else "small"


def item(number: int, kind: RecordKind, record_id: str, header: bytes, body: bytes, at: float) -> Item:
    """The item of a record. Raises ValueError for one over the bounds."""
    name = record_id.encode()
    if not name or len(name) > ID_BYTES:
        raise ValueError(f"an id of {len(name)} bytes; 1 to {ID_BYTES} are allowed")
    if len(header) > MAX_HEADER_BYTES or len(body) > MAX_BODY_BYTES:
        raise ValueError(f"a record of {len(header)} + {len(body)} bytes is too big")
    crc = zlib.crc32(body, zlib.crc32(header))
    return Item(number, kind, name.ljust(ID_BYTES, b"\0"), len(header), len(body), crc, at)


def greeting(kind: Kind, message: Hello | Welcome | Farewell) -> bytes:
    """The frame of a greeting or a farewell."""
    return encode(kind, msgspec.json.encode(message))


G = TypeVar("G", Hello, Welcome, Farewell)


def read_greeting(frame: Frame, kind: type[G]) -> G:
    """The message in a greeting. Raises BadFrame."""
    try:
        return msgspec.json.decode(frame.payload, type=kind)
    except msgspec.MsgspecError as error:
        raise BadFrame(f"{kind.__name__}: {error}") from error


def record_frames(kind: Kind, what: Item, content: bytes) -> Iterator[bytes]:
    """The frames of a record: RECORD or SUBMIT with the first part of the content, BODY with each of the rest."""
    view = memoryview(content)
    head = _ITEM.pack(
        what.number, KIND_NUMBERS[what.kind], what.id, what.header_bytes, what.body_bytes, what.crc, what.at
    )  # fmt: skip
    yield encode(kind, head + view[:CHUNK_BYTES])
    number = _NUMBER.pack(what.number)
    for start in range(CHUNK_BYTES, len(content), CHUNK_BYTES):
        yield encode(Kind.BODY, number + view[start : start + CHUNK_BYTES])


def read_item(frame: Frame) -> tuple[Item, bytes]:
    """The item of a RECORD or SUBMIT frame and the first part of its content. Raises BadFrame."""
    if len(frame.payload) < _ITEM.size:
        raise BadFrame("a record's frame that is too short")
    number, kind, name, header_bytes, body_bytes, crc, at = _ITEM.unpack_from(frame.payload)
    if kind not in KINDS:
        raise BadFrame(f"a record of unknown kind {kind}")
    if number < 1 or header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
        raise BadFrame(f"a record {number} of {header_bytes} + {body_bytes} bytes is out of bounds")
    return Item(number, KINDS[kind], name, header_bytes, body_bytes, crc, at), frame.payload[_ITEM.size :]


def read_part(frame: Frame) -> tuple[int, bytes]:
    """The record's number in a BODY frame, and the part. Raises BadFrame."""
    return read_number(frame), frame.payload[_NUMBER.size :]


def ranges_frames(kind: Kind, ranges: Ranges) -> Iterator[bytes]:
    """HELD, STORED, RELEASED or WITHDRAWN: as many frames as the ranges need."""
    for start in range(0, len(ranges), MAX_RANGES):
        yield encode(kind, b"".join(_RANGE.pack(*pair) for pair in ranges[start : start + MAX_RANGES]))


def read_ranges(frame: Frame) -> Ranges:
    """The ranges in such a frame. Raises BadFrame for any that is empty, out of order or begins below 1."""
    if len(frame.payload) % _RANGE.size:
        raise BadFrame("ranges that are cut")
    found = tuple((first, last) for first, last in _RANGE.iter_unpack(frame.payload))
    before = 0
    for first, last in found:
        if not before < first <= last:
            raise BadFrame(f"ranges out of order: {first}-{last} behind {before}")
        before = last
    return found


def number_frame(kind: Kind, number: int, words: str = "") -> bytes:
    """SECURED, NOT_SECURED (with the reason) or GIVEN_UP."""
    return encode(kind, _NUMBER.pack(number) + words.encode()[:CHUNK_BYTES])


def read_number(frame: Frame) -> int:
    """The submission's number. Raises BadFrame."""
    if len(frame.payload) < _NUMBER.size:
        raise BadFrame("a frame without its number")
    number: int = _NUMBER.unpack_from(frame.payload)[0]
    return number


def read_words(frame: Frame) -> str:
    """The reason in a NOT_SECURED frame."""
    return frame.payload[_NUMBER.size :].decode(errors="replace")


def opened_frame(txn: str, recipients: int) -> bytes:
    """OPENED: the transaction holds so many accepted recipients now; CLOSED is the same with 0."""
    return encode(Kind.OPENED if recipients else Kind.CLOSED, _OPENED.pack(txn.encode(), recipients))


def read_opened(frame: Frame) -> tuple[str, int]:
    """Transaction and recipients. Raises BadFrame."""
    if len(frame.payload) != _OPENED.size:
        raise BadFrame("a transaction's frame of the wrong length")
    name, recipients = _OPENED.unpack(frame.payload)
    return name.rstrip(b"\0").decode(errors="replace"), recipients
