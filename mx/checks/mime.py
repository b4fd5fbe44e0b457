"""A raw message to what filters look at: header fields, leaves with text, digest, kind and names inside.

Runs in a process that may be killed (`mx.checks.mime_child`): hostile input may cost it time and memory.
"""

import binascii
import hashlib
import re
from collections.abc import Iterator

from mx.checks import archive, magic, mime_leaves, mime_text
from mx.checks.mime_leaves import Leaf
from mx.filter import Message, Part

MAX_TEXT_CHARS = 256 * 1024
"""Of one part; the rest is left out, and that is a defect."""
MAX_ALL_TEXT_CHARS = 1024 * 1024
MAX_FILENAME_CHARS = 255
MAX_UUENCODED = 50

_UU_BEGIN = re.compile(rb"^begin [0-7]{3,4} ([^\r\n]{1,255})\r?$", re.MULTILINE)
_UU_END = b"\nend"


def parse(raw: bytes) -> Message:
    """The message; `unchecked` when it is beyond the limits. Never raises but for memory."""
    fields, is_whole = mime_text.header_fields(raw)
    try:
        leaves, defects = mime_leaves.read(raw)
    except mime_leaves.TooMuch as error:
        return Message(fields, (), len(raw), unchecked=str(error))
    if not is_whole:
        defects.add("header.broken")
    left = MAX_ALL_TEXT_CHARS
    parts = []
    for leaf in _with_uuencoded(leaves):
        part = _part(leaf, defects, min(left, MAX_TEXT_CHARS))
        left -= len(part.text)
        parts.append(part)
    return Message(fields, tuple(parts), len(raw), defects=tuple(sorted(defects)))


def _part(leaf: Leaf, defects: set[str], text_chars: int) -> Part:
    filename = mime_text.clean(mime_text.words(leaf.filename))[-MAX_FILENAME_CHARS:]  # its end says what it is
    kind = magic.kind(leaf.content)
    inside = archive.look(leaf.content, kind, filename)
    defects |= inside.defects
    return Part(
        content_type=mime_text.clean(leaf.content_type),
        filename=filename,
        size_bytes=len(leaf.content),
        sha256=hashlib.sha256(leaf.content).hexdigest(),
        text=_text(leaf, kind, defects, text_chars),
        magic=kind,
        members=tuple(mime_text.clean(name) for name in inside.names),
    )


def _text(leaf: Leaf, kind: str, defects: set[str], chars: int) -> str:
    """The text of a text part, and of a multipart that has no parts: mail programs show it."""
    if not leaf.content_type.startswith(("text/", "multipart/")):
        return ""
    if len(leaf.content) > 4 * chars:
        defects.add("text.cut")
    text = mime_text.decoded(leaf.content[: 4 * chars], leaf.charset)  # no charset takes more bytes a character
    if len(text) > chars:
        defects.add("text.cut")
    return text[:chars]


def _with_uuencoded(leaves: list[Leaf]) -> Iterator[Leaf]:
    """The leaves, each text followed by the files that are uuencoded in it."""
    for leaf in leaves:
        yield leaf
        if leaf.content_type == "text/plain" and b"begin " in leaf.content:
            yield from _uuencoded(leaf.content)


def _uuencoded(content: bytes) -> Iterator[Leaf]:
    position = 0
    for _ in range(MAX_UUENCODED):
        begin = _UU_BEGIN.search(content, position)
        if begin is None:
            return
        position = content.find(_UU_END, begin.end())
        if position < 0:
            position = len(content)
        file = _uu_decoded(content[begin.end() : position])
        if file:
            yield Leaf("application/octet-stream", begin[1].decode("utf-8", "replace"), "", file)


def _uu_decoded(body: bytes) -> bytes:
    """The file of its lines, up to the first that is none; b"" when that is the first."""
    decoded = bytearray()
    for line in body.strip(b"\r\n").splitlines():
        try:
            decoded += binascii.a2b_uu(line)
        except binascii.Error:
            break
    return bytes(decoded)
