"""The frames of the spool protocol: bytes to frames and back. Pure.

    0        2       3      4               8
    | "mx"   | major | kind | length        | payload of `length` bytes |

Numbers are big-endian. No frame is longer than `MAX_PAYLOAD_BYTES`: what is longer travels in parts, so that a reader
needs little memory for a peer it does not know yet.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

MAJOR, MINOR = 1, 0
"""A peer of another major is refused; of a newer minor, kinds of frames that we do not know are skipped."""
CHUNK_BYTES = 256 * 1024
"""The most content that one RECORD, SUBMIT or BODY frame carries."""
MAX_PAYLOAD_BYTES = CHUNK_BYTES + 1024

_MAGIC = b"mx"
_HEAD = struct.Struct(">2sBBI")
HEAD_BYTES = _HEAD.size


class BadFrame(ValueError):
    """Bytes that are no frame of this protocol; nothing after them can be trusted."""


class WrongVersion(BadFrame):
    """A frame of another major version."""


class Kind(IntEnum):
    """What a frame is. Numbers are never used again."""

    HELLO = 1
    WELCOME = 2
    REFUSE = 3
    BYE = 4
    PING = 5
    PONG = 6
    RECORD = 10
    BODY = 11
    HELD = 12
    STORED = 13
    RELEASED = 14
    WITHDRAWN = 15
    SUBMIT = 20
    SECURED = 21
    NOT_SECURED = 22
    GIVEN_UP = 23
    OPENED = 24
    CLOSED = 25


_KINDS = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; `kind` is a bare number when we do not know it."""

    kind: Kind | int
    payload: bytes


def encode(kind: Kind, payload: bytes = b"") -> bytes:
    """The bytes of a frame. Raises ValueError for a payload over the bound, which is a fault of the caller."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"{kind.name}: {len(payload)} bytes are too much for one frame")
    return _HEAD.pack(_MAGIC, MAJOR, kind, len(payload)) + payload


class Reader:
    """Takes bytes as they come and gives the frames that are whole."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole with these bytes. Raises BadFrame at the first byte that cannot be right."""
        self._held += data
        start = 0
        try:
            while (length := self._payload_bytes(start)) is not None:
                first, end = start + HEAD_BYTES, start + HEAD_BYTES + length
                if len(self._held) < end:
                    return
                number, payload = self._held[start + 3], bytes(memoryview(self._held)[first:end])
                start = end
                yield Frame(_KINDS.get(number, number), payload)
        finally:
            del self._held[:start]

    @property
    def is_between_frames(self) -> bool:
        """Whether an end of the stream here cuts nothing."""
        return not self._held

    def _payload_bytes(self, start: int) -> int | None:
        """Length of the payload whose frame begins here; None while its head is not whole."""
        head = self._held[start : start + HEAD_BYTES]
        if not _MAGIC.startswith(head[:2]):
            raise BadFrame("not a frame of the spool protocol")
        if len(head) > 2 and head[2] != MAJOR:
            raise WrongVersion(f"major version {head[2]}; this side speaks {MAJOR}.{MINOR}")
        if len(head) < HEAD_BYTES:
            return None
        length: int = _HEAD.unpack(head)[3]
        if length > MAX_PAYLOAD_BYTES:
            raise BadFrame(f"a payload of {length} bytes; at most {MAX_PAYLOAD_BYTES} are allowed")
        return length
