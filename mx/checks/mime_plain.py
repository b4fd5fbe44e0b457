"""Reads a message that is plain text and nothing else, at once: most of what a parser's process costs is asking it.

Only what has no structure to be hostile with: bounded, ASCII, no Content-* field and no encoded word, so
that every step is linear. Everything else is for `mx.checks.mime` in a process that can be killed. Pure.
"""

import hashlib
import re

from mx import headers
from mx.checks import magic, mime_text
from mx.filter import Message, Part

MOST_BYTES = 2 * 1024 * 1024
MOST_HEADER_BYTES = 8 * 1024

_STRUCTURE = re.compile(rb"\n(?:content-|mime-version)|=\?", re.IGNORECASE)


def read(raw: bytes) -> Message | None:
    """What `mime.parse` says of it, or None when it is not that plain."""
    if len(raw) > MOST_BYTES or not raw.isascii():
        return None
    end = headers.split(raw)
    if not 0 < end <= MOST_HEADER_BYTES or len(raw) < end + 2 or _STRUCTURE.search(b"\n" + raw[:end]):
        return None
    fields, is_whole = mime_text.header_fields(raw)
    content = raw[end + 2 :]
    if not is_whole or b"begin " in content or b"\0" in raw or magic.kind(content):
        return None
    text = content.decode("ascii")
    part = Part("text/plain", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), text=text)
    return Message(fields, (part,), len(raw))
