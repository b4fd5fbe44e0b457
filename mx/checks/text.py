"""What a reader of a message sees as text, for filters that search it. Pure; decides nothing.

Tags, comments, scripts and styles of HTML go, and so do the invisible characters that split words, since what counts
is what the recipient reads. Every step is linear in the input: a mail can be written to be slow to strip.
"""

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from mx import headers
from mx.filter import Message, Part

MOST_CHARS = 200_000
"""Text of one mail that is looked at, over all of its places; what follows is not searched."""
PIECE_CHARS = 4096
MOST_NAMES = 200
"""Attachment names that are looked at."""

Where = Literal["subject", "text", "attachment_name"]

_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
_TAG = re.compile(r"/?([a-zA-Z][a-zA-Z0-9:]{0,20})")
_INLINE = frozenset({
    "a", "abbr", "b", "big", "code", "em", "font", "i", "ins", "label", "mark", "q", "s", "small", "span",
    "strike", "strong", "sub", "sup", "tt", "u", "wbr",
})  # fmt: skip
_SILENT = {name: re.compile(f"</{name}", re.IGNORECASE | re.ASCII) for name in ("script", "style", "title", "template")}
"""Elements whose content nobody reads, and how they end."""


class Text(NamedTuple):
    """One text of a message and where it stands."""

    where: Where
    text: str


def texts(message: Message | None, raw: bytes) -> list[Text]:
    """Subject, text parts and attachment names, at most `MOST_CHARS` together, in composed form (NFKC).

    An unchecked message has its subject alone, read from `raw`.
    """
    found: list[Text] = []
    left = MOST_CHARS
    for where, text in _places(message, raw):
        cut = text[:left]
        left -= len(cut)
        if cut:
            found.append(Text(where, cut))
        if not left:
            break
    return found


def plain(text: str, most_chars: int = MOST_CHARS) -> str:
    """Text in composed form, without the characters that nobody sees, and fit for UTF-8.

    Made in pieces, because one character can become eighteen.
    """
    if text.isascii():
        return text[:most_chars]
    made, length = [], 0
    for start in range(0, len(text), PIECE_CHARS):
        piece = text[start : start + PIECE_CHARS].encode("utf-8", "replace").decode("utf-8").translate(_INVISIBLE)
        made.append(unicodedata.normalize("NFKC", piece))
        length += len(made[-1])
        if length >= most_chars:
            break
    return "".join(made)[:most_chars]


def stripped(source: str) -> str:
    """What an HTML source shows as text: a tag that ends a word becomes a space, one inside a word nothing."""
    shown: list[str] = []
    at = 0
    while (start := source.find("<", at)) >= 0:
        shown.append(source[at:start])
        tag = _TAG.match(source, start + 1)
        name = tag[1].lower() if tag else ""
        at = _after(source, start, name)
        if at < 0:
            break
        shown.append("<" if at == start + 1 else "" if name in _INLINE or source.startswith("<!--", start) else " ")
    else:
        shown.append(source[at:])
    return html.unescape("".join(shown))


def _after(source: str, start: int, name: str) -> int:
    """Where the markup that begins at `start` is over; -1 when nothing behind it is shown."""
    if source.startswith("<!--", start):
        return _behind(source, "-->", start + 4)
    if not name and source[start + 1 : start + 2] not in ("!", "?", "/"):
        return start + 1
    if name in _SILENT and source[start + 1] != "/":
        close = _SILENT[name].search(source, start)
        return _behind(source, ">", close.start()) if close else -1
    return _behind(source, ">", start)


def _behind(text: str, mark: str, start: int) -> int:
    at = text.find(mark, start)
    return -1 if at < 0 else at + len(mark)


def _places(message: Message | None, raw: bytes) -> Iterator[Text]:
    if message is None or message.unchecked:
        yield Text("subject", plain(headers.summaries(raw, b"subject").get(b"subject", "")))
        return
    for subject in message.header("subject")[:3]:
        yield Text("subject", plain(subject))
    for part in message.parts:
        if part.text:
            yield Text("text", plain(_readable(part)))
    for name in _names(message.parts):
        yield Text("attachment_name", plain(name))


def _readable(part: Part) -> str:
    source = part.text[: 2 * MOST_CHARS]
    return stripped(source) if part.content_type.lower() == "text/html" else source


def _names(parts: Sequence[Part]) -> list[str]:
    return [name for part in parts for name in (part.filename, *part.members) if name][:MOST_NAMES]
