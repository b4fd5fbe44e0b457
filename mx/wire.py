"""The two readers of an SMTP connection, without I/O: command lines, and the message after DATA.

Both take bytes in pieces of any size and hold no more than their bound, whatever the content.
"""

import re

LINE_BYTES = 4096
"""Longest command line taken: 512 of RFC 5321 section 4.5.3.1.4 and room for every extension's parameters."""

_END = b"\r\n.\r\n"
_BARE = re.compile(rb"\r\n|\r|\n")


class Commands:
    """Splits what a client sends into command lines."""

    def __init__(self) -> None:
        self.held = bytearray()
        """Bytes not yet taken; what follows the message or STARTTLS is read or dropped here."""
        self._skipping = False

    def feed(self, data: bytes) -> None:
        """Add what arrived."""
        self.held += data

    def line(self) -> bytes | None:
        """The next line without its end, b"" for an over-long one once it has ended; None when there is none yet.

        A lone LF ends a command too: nothing can be smuggled between commands of one client.
        """
        end = self.held.find(b"\n")
        if end < 0:
            if len(self.held) > LINE_BYTES:
                self._skipping = True
                self.held.clear()
            return None
        line = bytes(self.held[:end])
        del self.held[: end + 1]
        if self._skipping or len(line) > LINE_BYTES:
            self._skipping = False
            return b""
        return line.removesuffix(b"\r")

    @property
    def has_line(self) -> bool:
        """Whether a whole command waits: the client pipelines, so replies can wait for one write."""
        return b"\n" in self.held


class Body:
    """Takes the message after DATA up to CRLF.CRLF, the only thing that ends it (RFC 5321 section 4.1.1.4)."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._data = bytearray(b"\r\n")  # so that a dot at the very start ends or is un-stuffed like any other
        self._dropped = 0
        self.rest = b""
        """What followed the end: the client's next commands."""

    @property
    def size_bytes(self) -> int:
        """Bytes taken so far, dots included."""
        return self._dropped + len(self._data) - 2

    @property
    def too_big(self) -> bool:
        """Whether the limit was passed; from then on bytes are counted and dropped."""
        return self.size_bytes > self._limit

    def feed(self, data: bytes) -> bool:
        """Add what arrived; True when the message has ended."""
        start = max(0, len(self._data) - len(_END) + 1)
        self._data += data
        end = self._data.find(_END, start)
        if end >= 0:
            self.rest = bytes(self._data[end + len(_END) :])
            del self._data[end + 2 :]
            return True
        if len(self._data) > self._limit + 2 + len(_END):
            self._dropped += len(self._data) - 4
            del self._data[:-4]
        return False

    def message(self) -> bytes:
        """The message with dots un-stuffed; empties the reader, so that only one copy stays."""
        data, self._data = self._data, bytearray()
        if b"\r\n." in data:
            data = data.replace(b"\r\n.", b"\r\n")
        return bytes(memoryview(data)[2:])


def has_bare_newline(message: bytes) -> bool:
    """Whether a CR or LF stands alone; such bytes end a message at a lax next hop (CVE-2023-51764 and kin)."""
    pairs = message.count(b"\r\n")
    return message.count(b"\n") != pairs or message.count(b"\r") != pairs


def normalised(message: bytes) -> bytes:
    """The message with every lone CR or LF made a CRLF."""
    return _BARE.sub(b"\r\n", message)
