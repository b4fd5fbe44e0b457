"""Bytes of a mail as text: charsets, encoded words, header fields. Linear in any input, never fails. No I/O."""

import binascii
import codecs
import re
from collections.abc import Iterator

from mx import headers

MAX_FIELDS = 1000
MAX_VALUE_CHARS = 16 * 1024
MAX_BAD_LINES = 20
MAX_HEADER_CHARS = 1024 * 1024
"""Of all values together; a longer header is cut, and that is a defect."""

_WORD = re.compile(r"=\?([^?\s*]{1,40})(?:\*[^?\s]{0,20})?\?([bq])\?([^?\r\n]*)\?=", re.IGNORECASE)
_QUOTED = re.compile(rb"=([0-9a-f]{2})", re.IGNORECASE)
_FOLD = re.compile(r"[\r\n]+(?=[ \t])")

_WEB = {"us-ascii": "utf-8", "ascii": "utf-8", "iso-8859-1": "cp1252", "latin-1": "cp1252", "gb2312": "gb18030"}
"""What mail programs read for these names (WHATWG Encoding Standard); ASCII with 8-bit bytes is mostly UTF-8."""
_NO_CHARSETS = (
    "idna",
    "punycode",
    "unicode_escape",
    "raw_unicode_escape",
    "unicode-escape",
    "raw-unicode-escape",
    "undefined",
)
"""Python codecs that are no charset of mail, some of quadratic time."""


def decoded(content: bytes, charset: str) -> str:
    """The text of bytes by the charset they name; by UTF-8, then Windows-1252, where that cannot be."""
    name = charset.strip().lower()
    for one in (_WEB.get(name, name), "utf-8"):
        try:
            if codecs.lookup(one).name not in _NO_CHARSETS:
                return clean(content.decode(one))
        except (LookupError, ValueError):
            continue  # an unknown name, no charset, or bytes that are not of it: the next one is tried
    return content.decode("cp1252", "replace")


def clean(text: str) -> str:
    """The text without lone surrogates, which nothing can encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text


def words(text: str) -> str:
    """A text with its encoded words decoded (RFC 2047); what is none stays as it is.

    Neighbours of one charset are joined before they are decoded: mailers cut characters in two.
    """
    if "=?" not in text:
        return text
    return "".join(_pieces(text))


def header_fields(raw: bytes) -> tuple[tuple[tuple[str, str], ...], bool]:
    """(name, unfolded and decoded value) of the header in order, and whether all of it could be read.

    Lines that are no field are passed over, as mail programs do (`mx.headers` stops there). At most
    MAX_FIELDS fields of MAX_VALUE_CHARS characters, MAX_HEADER_CHARS in all, MAX_BAD_LINES.
    """
    found: list[tuple[str, str]] = []
    rest, chars, bad_lines = raw[: headers.split(raw)], 0, 0
    while bad_lines <= MAX_BAD_LINES:
        position = 0
        for field in headers.fields(rest):
            if len(found) == MAX_FIELDS or chars > MAX_HEADER_CHARS:
                return tuple(found), False
            found.append(_field(rest, field))
            chars, position = chars + len(found[-1][1]), field.end
        if position == len(rest):
            return tuple(found), not bad_lines
        bad_lines += 1
        line_end = rest.find(b"\r\n", position)
        rest = rest[line_end + 2 :] if line_end >= 0 else b""
    return tuple(found), False


def _field(raw: bytes, field: headers.Field) -> tuple[str, str]:
    name = raw[field.start : field.value_start].partition(b":")[0].strip().decode("latin-1")
    value = raw[field.value_start : min(field.end, field.value_start + MAX_VALUE_CHARS)]
    return name, words(_FOLD.sub("", decoded(value, "utf-8")).strip())


def _pieces(text: str) -> Iterator[str]:
    """The text between encoded words, and runs of these decoded."""
    held, charset, position = b"", "", 0
    for match in _WORD.finditer(text):
        between = text[position : match.start()]
        is_neighbour = charset and not between.strip()
        if not is_neighbour or charset != match[1].lower():
            yield decoded(held, charset) if charset else ""
            yield "" if is_neighbour else between
            held, charset = b"", match[1].lower()
        held += _word(match[2].lower(), match[3])
        position = match.end()
    yield decoded(held, charset) if charset else ""
    yield text[position:]


def _word(encoding: str, text: str) -> bytes:
    content = text.encode("utf-8", "replace")
    if encoding == "q":
        return _QUOTED.sub(lambda match: bytes([int(match[1], 16)]), content.replace(b"_", b" "))
    try:
        return binascii.a2b_base64(content + b"===")
    except binascii.Error:
        return content
