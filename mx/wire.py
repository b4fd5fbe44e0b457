"""The two readers of an SMTP connection, without I/O: command lines, and the message after DATA.

Both take bytes in pieces of any size and hold no more than their bound, whatever the content.
"""

LINE_BYTES = 4096
"""Longest command line taken: 512 of RFC 5321 section 4.5.3.1.4 and room for every extension's parameters."""

_END = b"\r\n.\r\n"
_BEGINNINGS = tuple(_END[:length] for length in range(len(_END) - 1, 0, -1))
"""What may be the beginning of the end, the longest first."""


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

    def take(self) -> bytes:
        """Everything that is held, as the beginning of a message; nothing is held afterwards."""
        data = bytes(self.held)
        self.held.clear()
        return data

    @property
    def has_line(self) -> bool:
        """Whether a whole command waits: the client pipelines, so replies can wait for one write."""
        return b"\n" in self.held


class Body:
    """Takes the message after DATA up to CRLF.CRLF, the only thing that ends it (RFC 5321 section 4.1.1.4).

    Each piece is un-stuffed and looked through for bare newlines as it arrives, so that the end of a
    large message costs no more than its last piece. What is ready can be taken before the end.
    """

    def __init__(self, limit_bytes: int, *, normalise: bool = False) -> None:
        self._limit = limit_bytes
        self._normalise = normalise
        self._tail = b"\r\n"  # so that a dot at the very start ends or is un-stuffed like any other
        self._is_first = True
        self._ready = bytearray()  # not a list of pieces: single bytes would take fifty times their size
        self._bytes = -2
        self.has_bare_newline = False
        """Whether a CR or LF stood alone; such bytes end a message at a lax next hop (CVE-2023-51764 and kin)."""
        self.rest = b""
        """What followed the end: the client's next commands."""

    @property
    def size_bytes(self) -> int:
        """Bytes taken so far, dots included."""
        return self._bytes + len(self._tail)

    @property
    def held_bytes(self) -> int:
        """Bytes of the message that wait here."""
        return len(self._ready)

    @property
    def too_big(self) -> bool:
        """Whether the limit was passed; from then on bytes are counted and dropped."""
        return self.size_bytes > self._limit

    def feed(self, data: bytes) -> bool:
        """Add what arrived; True when the message has ended."""
        data = self._tail + data
        end = data.find(_END)
        if end >= 0:
            self.rest = data[end + len(_END) :]
            piece, self._tail = data[: end + 2], b""
        else:
            held = next((len(beginning) for beginning in _BEGINNINGS if data.endswith(beginning)), 0)
            piece, self._tail = (data[:-held], data[-held:]) if held else (data, b"")
        self._bytes += len(piece)
        if self.too_big:
            self.message()
        elif piece:
            self._add(piece)
        return end >= 0

    def message(self) -> bytes:
        """The message with dots un-stuffed, so far as it was not taken before; it is not held here any more."""
        ready, self._ready = self._ready, bytearray()
        return bytes(ready)

    def _add(self, piece: bytes) -> None:
        is_bare = has_bare_newline(piece)
        if b"\r\n." in piece:
            piece = piece.replace(b"\r\n.", b"\r\n")
        if self._is_first:
            self._is_first, piece = False, piece[2:]
        if is_bare:
            self.has_bare_newline = True
            piece = normalised(piece) if self._normalise else piece
        self._ready += piece


def has_bare_newline(message: bytes) -> bool:
    """Whether a CR or LF stands alone."""
    pairs = message.count(b"\r\n")
    return message.count(b"\n") != pairs or message.count(b"\r") != pairs


def normalised(message: bytes) -> bytes:
    """The message with every lone CR or LF made a CRLF. Three replacements: a pattern takes ten times as long."""
    return message.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
