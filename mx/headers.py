"""The header of a message as bytes: fields by one expression, and the two edits we ever make.

No email package: it is slow on purpose-made input, and what is delivered must be the received
bytes but for the documented edits (the tag a domain chose, foreign Authentication-Results fields).
"""

import re
from email.errors import HeaderParseError
from email.header import decode_header, make_header

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:((?:[^\r\n]|\r\n[ \t])*)(?:\r\n|\Z)")
_FOLD = re.compile(r"\r\n(?=[ \t])")
_COMMENT = re.compile(rb"\([^()]*\)")

SUMMARY_CHARS = 500
"""How much of a subject, sender or id is kept for display and search."""


def split(raw: bytes) -> int:
    """Length of the header section in `raw`, its last CRLF included; the body follows after an empty line."""
    if raw.startswith(b"\r\n"):
        return 0
    end = raw.find(b"\r\n\r\n")
    return len(raw) if end < 0 else end + 2


def fields(head: bytes) -> list[tuple[bytes, bytes, int, int]]:
    """(name in lower case, raw value with folds, start, end) of each field; reading stops at the first bad line."""
    found = []
    position = 0
    while match := _FIELD.match(head, position):
        found.append((match[1].lower(), match[2], match.start(), match.end()))
        position = match.end()
    return found


def summary(value: bytes) -> str:
    """A field's value unfolded and RFC 2047-decoded for display: one line, bounded, any input."""
    text = _FOLD.sub("", value.decode("utf-8", "replace")).strip()
    if "=?" in text:
        try:
            text = str(make_header(decode_header(text[: 4 * SUMMARY_CHARS])))
        except (HeaderParseError, UnicodeError, LookupError, ValueError):
            return printable(text)  # words that cannot be decoded are shown as they came
    return printable(text)


def printable(text: str) -> str:
    """One bounded line of a text for display and search; no control character gets into a log or the database."""
    return "".join(character if character.isprintable() else " " for character in text[:SUMMARY_CHARS]).strip()


def first(found: list[tuple[bytes, bytes, int, int]], name: bytes) -> str:
    """`summary` of the first field of that name, "" when there is none."""
    return next((summary(value) for field, value, _, _ in found if field == name), "")


def cleaned(raw: bytes, hostname: str, tag: str) -> bytes:
    """The message to deliver: `raw` itself when nothing has to be edited.

    Removes Authentication-Results fields that claim to be ours (RFC 8601 section 5) and puts `tag`
    before the subject unless it is there already; a message without a subject gets one.
    """
    head = raw[: split(raw)]
    if not tag and b"authentication-results" not in head.lower():
        return raw
    size = len(head)
    found = fields(head)
    edits = [(start, end, b"") for name, value, start, end in found if _claims(name, value, hostname)]
    if tag:
        edits.append(_tagged(head, found, tag))
    if not edits:
        return raw
    for start, end, replacement in sorted(edits, reverse=True):
        head = head[:start] + replacement + head[end:]
    return head + raw[size:]


def _claims(name: bytes, value: bytes, hostname: str) -> bool:
    if name != b"authentication-results":
        return False
    words = _COMMENT.sub(b"", value).replace(b"\r\n", b"").split(b";")[0].split()
    return bool(words) and words[0].strip(b'"').lower() == hostname.lower().encode()


def _tagged(head: bytes, found: list[tuple[bytes, bytes, int, int]], tag: str) -> tuple[int, int, bytes]:
    mark = tag.encode()
    for name, value, start, end in found:
        if name == b"subject":
            if value.strip().startswith(mark):
                return start, end, head[start:end]
            return start, end, b"Subject: " + mark + b" " + value.lstrip(b" \t") + b"\r\n"
    return 0, 0, b"Subject: " + mark + b"\r\n"
