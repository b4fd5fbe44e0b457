"""The header fields of any bytes as they can be shown to a person: unfolded, decoded, bounded. Pure."""

import re
from binascii import Error as Base64Error
from email.errors import HeaderParseError
from email.header import decode_header

MAX_HEAD_BYTES = 256 * 1024
MAX_FIELDS = 300
MAX_VALUE_CHARS = 4000
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_FIELD = re.compile(r"([!-9;-~]{1,100})[ \t]*:(.*)", re.DOTALL)
"""RFC 5322 section 2.2: a name is printable ASCII without the colon."""
_FOLD = re.compile(r"\r?\n(?=[ \t])")


def shown(raw: bytes) -> tuple[tuple[str, str], ...]:
    """(name, value) of each field in order; lines that are no field are left out."""
    end = _HEAD_END.search(raw, 0, MAX_HEAD_BYTES)
    head = raw[: end.start() if end else MAX_HEAD_BYTES].decode("utf-8", "replace")
    found = (_FIELD.fullmatch(line) for line in _FOLD.sub("", head).splitlines())
    pairs = [(each[1], value(each[2])) for each in found if each]
    return tuple(pairs[:MAX_FIELDS])


def value(text: str) -> str:
    """A field's value with its encoded words decoded (RFC 2047) as far as they can be."""
    text = text.strip()[:MAX_VALUE_CHARS]
    if "=?" not in text:
        return printable(text)
    try:
        return printable("".join(_decoded(part, charset) for part, charset in decode_header(text)))
    except (HeaderParseError, Base64Error, ValueError):
        return printable(text)


def printable(text: str) -> str:
    """One line without control characters or lone surrogates."""
    return "".join(each if each.isprintable() else " " for each in text).strip()


def _decoded(part: bytes | str, charset: str | None) -> str:
    if isinstance(part, str):
        return part
    try:
        return part.decode(charset or "utf-8", "replace")
    except LookupError:
        return part.decode("latin-1")
