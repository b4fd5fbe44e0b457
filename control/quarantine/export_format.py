"""Mails as other programs read them: an mbox, a zip of .eml files, a table. Pure.

mbox is the "rd" kind of RFC 4155 appendix A's family: lines end with LF, and each line that begins with any number of
">" and "From " gets one ">" more, so that it can be read back. The exact bytes are in the zip.
"""

import csv
import io
import re
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

COLUMNS = (
    "n", "id", "received_at", "sender", "recipient", "subject", "reason", "filter", "score", "node", "client_ip",
    "size_bytes", "status", "body",
)  # fmt: skip
_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is run by spreadsheets; subjects come from strangers."""
_OLDEST = datetime(1980, 1, 1, tzinfo=UTC)
"""What a zip's times can bear."""


def mbox(row: Mapping[str, Any], raw: bytes, export: str) -> bytes:
    """One mail of an mbox. Its first field names the export and the mail's number in it: after a cut, the last whole
    one says where to go on."""
    sender = re.sub(r"[^\x21-\x7e]", "_", row["sender"]) or "MAILER-DAEMON"
    at = row["received_at"].astimezone(UTC).strftime("%a %b %d %H:%M:%S %Y")
    mark = f"X-Mxfleet-Export: {export} {row['n']} {row['id']}"
    body = _FROM.sub(rb">\1", raw.replace(b"\r\n", b"\n"))
    return f"From {sender} {at}\n{mark}\n".encode() + body.rstrip(b"\n") + b"\n\n"


def line(row: Mapping[str, Any]) -> bytes:
    """One line of the table (RFC 4180)."""
    return _csv([_cell(row[name]) for name in COLUMNS])


def head() -> bytes:
    """The table's first line."""
    return _csv(COLUMNS)


def file_name(row: Mapping[str, Any]) -> str:
    """A mail's name in the zip."""
    return f"{row['n']:07}-{row['id']}.eml"


class ZipStream:
    """A zip that is given out as it grows: nothing of it has to be kept."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED)

    def add(self, name: str, content: bytes, at: datetime) -> bytes:
        """The next piece, with this file in it."""
        info = zipfile.ZipInfo(name, max(at.astimezone(UTC), _OLDEST).timetuple()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        self._zip.writestr(info, content)
        return self._sink.take()

    def end(self) -> bytes:
        """The last piece."""
        self._zip.close()
        return self._sink.take()


class _Sink(io.RawIOBase):
    """Takes what is written and gives it out; it cannot seek, so that the zip is written without going back."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _csv(cells: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
