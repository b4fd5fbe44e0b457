"""The reader of SMTP replies, without I/O: bytes in pieces of any size, whole replies out (RFC 5321 section 4.2)."""

import re

import msgspec

LINE_BYTES = 4096
"""Longest line taken; RFC 5321 section 4.5.3.1.5 allows 512, some servers put addresses and links into one."""
LINES = 200
"""Longest reply taken, in lines; the longest EHLO in use has some twenty."""

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)


class Garbled(ValueError):
    """What arrived is no SMTP reply, or too long for one; nothing behind it can be understood either."""


class Reply(msgspec.Struct, frozen=True):
    """One whole reply: its code, 200 to 599, and its lines without code and line end, as they came."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def kind(self) -> int:
        """The first digit: 2 done, 3 go on, 4 not now, 5 not ever."""
        return self.code // 100


class Replies:
    """Takes what a server sends apart into replies; holds no more than what was fed and not yet taken."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._code = b""
        self._lines: list[bytes] = []

    @property
    def held_bytes(self) -> int:
        """Bytes not yet taken as a reply; 0 when the server has said nothing that was not asked for."""
        return len(self._held) + len(self._lines)

    def feed(self, data: bytes) -> None:
        """Add what arrived."""
        self._held += data

    def take(self) -> Reply | None:
        """The next whole reply, None when it has not all arrived. Raises Garbled.

        A lone LF ends a line too: what a server says can smuggle nothing into its own connection.
        """
        while (end := self._held.find(b"\n", 0, LINE_BYTES)) >= 0:
            line = bytes(self._held[:end]).removesuffix(b"\r")
            del self._held[: end + 1]
            reply = self._add(line)
            if reply:
                return reply
        if len(self._held) >= LINE_BYTES:
            raise Garbled("a reply line that does not end")
        return None

    def _add(self, line: bytes) -> Reply | None:
        found = _LINE.fullmatch(line)
        if found is None or (self._lines and found[1] != self._code):
            raise Garbled(f"a reply that makes no sense: {line[:100].decode('latin-1')}")
        if len(self._lines) >= LINES:
            raise Garbled("a reply that does not end")
        self._code = found[1]
        self._lines.append(found[3] or b"")
        if found[2] == b"-":
            return None
        reply = Reply(int(self._code), tuple(self._lines))
        self._lines.clear()
        return reply
