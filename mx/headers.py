"""The header of a message as bytes: fields by one expression, and the two edits we ever make.

No email package: it is slow on purpose-made input, and what is delivered must be the received
bytes but for the documented edits (the tag a domain chose, foreign Authentication-Results fields).
A header of very many fields costs time in proportion, and no memory.
"""

import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import NamedTuple

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*)(?:\r\n|\Z)")
# Runs, not alternatives by character: a field of 10 MB took a second of the event loop.
_RESULTS = re.compile(rb"(?:\A|\n)authentication-results[ \t]*:", re.IGNORECASE)
_FOLD = re.compile(r"\r\n(?=[ \t])")
_COMMENT = re.compile(rb"\([^()]*\)")

SUMMARY_CHARS = 500
"""How much of a subject, sender or id is kept for display and search."""
SUMMARY_FIELDS = 1000
"""In how many fields a summary is looked for."""
CLAIM_BYTES = 1000
"""Within how many bytes an Authentication-Results field has to name its server."""


class Field(NamedTuple):
    """One field: its name in lower case, where its value begins and where it ends, CRLF included."""

    name: bytes
    start: int
    value_start: int
    end: int


def split(raw: bytes) -> int:
    """Length of the header section in `raw`, its last CRLF included; the body follows after an empty line."""
    if raw.startswith(b"\r\n"):
        return 0
    end = raw.find(b"\r\n\r\n")
    return len(raw) if end < 0 else end + 2


def fields(raw: bytes) -> Iterator[Field]:
    """The fields of a message's header in order; reading stops at the first line that is none."""
    position, end = 0, split(raw)
    while match := _FIELD.match(raw, position, end):
        yield Field(match[1].lower(), match.start(), match.start(2), match.end())
        position = match.end()


def summaries(raw: bytes, *names: bytes) -> dict[bytes, str]:
    """The first field of each name for display: one bounded line; names without a field are left out."""
    found: dict[bytes, str] = {}
    for number, field in enumerate(fields(raw)):
        if field.name in names and field.name not in found:
            found[field.name] = summary(raw[field.value_start : field.end])
        if len(found) == len(names) or number == SUMMARY_FIELDS:
            break
    return found


def summary(value: bytes) -> str:
    """A field's value unfolded and RFC 2047-decoded for display: one line, bounded, any input."""
    text = _FOLD.sub("", value[: 8 * SUMMARY_CHARS].decode("utf-8", "replace")).strip()
    if "=?" in text:
        try:
            text = str(make_header(decode_header(text[: 4 * SUMMARY_CHARS])))
        except (HeaderParseError, UnicodeError, LookupError, ValueError):
            return printable(text)  # words that cannot be decoded are shown as they came
    return printable(text)


def printable(text: str) -> str:
    """One bounded line of a text for display and search; no control character gets into a log or the database."""
    return "".join(character if character.isprintable() else " " for character in text[:SUMMARY_CHARS]).strip()


def cleaned(raw: bytes, hostname: str, tag: str) -> bytes:
    """The message to deliver: `raw` itself when nothing has to be edited.

    Removes Authentication-Results fields that claim to be ours (RFC 8601 section 5) and puts `tag`
    before the subject unless it is there already; a message without a subject gets one.
    """
    if not tag and not _RESULTS.search(raw, 0, split(raw)):
        return raw
    edited = bytearray()
    kept_from, untagged, changed = 0, bool(tag), False
    for field in fields(raw):
        replacement: bytes | None = None
        if _claims(raw, field, hostname):
            replacement = b""
        elif untagged and field.name == b"subject":
            untagged, replacement = False, _tagged(raw[field.value_start : field.end], tag.encode())
        if replacement is not None:
            edited += raw[kept_from : field.start] + replacement
            kept_from, changed = field.end, True
    if untagged:
        edited[0:0] = b"Subject: " + tag.encode() + b"\r\n"
    return bytes(edited + raw[kept_from:]) if changed or untagged else raw


def _claims(raw: bytes, field: Field, hostname: str) -> bool:
    if field.name != b"authentication-results":
        return False
    value = raw[field.value_start : min(field.end, field.value_start + CLAIM_BYTES)]
    words = _COMMENT.sub(b"", value).replace(b"\r\n", b"").split(b";")[0].split()
    return bool(words) and words[0].strip(b'"').lower() == hostname.lower().encode()


def _tagged(value: bytes, mark: bytes) -> bytes | None:
    """The subject with the mark, None when it has it."""
    if value.strip().startswith(mark):
        return None
    return b"Subject: " + mark + b" " + value.lstrip(b" \t")
