"""The leaves of a MIME tree by two readers, so that what either kind of mail program would open is seen.

fast-mail-parser reads every message. The standard library's `email` is the referee: it reads the
structure again where there is one, and where the two differ the message is *ambiguous* and the
leaves of both count. `email` can be made to take many seconds, so it gets a budget of processor time.
"""

import email
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message as Tree
from types import FrameType
from typing import Any, NamedTuple

import fast_mail_parser

from mx import headers

MAX_DEPTH = 50
MAX_LEAVES = 1000
REFEREE_S = 0.7
"""Processor time of the referee: ordinary mail takes it milliseconds."""

AMBIGUOUS = "mime.ambiguous"
BROKEN = "mime.broken"

_DECIDING = ("content-type", "content-transfer-encoding", "content-disposition")
"""Fields of which a second one is read by some programs and not by others."""
_CHARSET = re.compile(r"""charset\s{0,9}=\s{0,9}["']?([^\s"';]{1,40})""", re.IGNORECASE)
_TEXT = re.compile(rb"\s*text/", re.IGNORECASE)
_BASE64_RUN = re.compile(rb"^((?:[A-Za-z0-9+/]{60,76}+\r?\n){4})(?:[A-Za-z0-9+/]{60,76}+\r?\n)++", re.MULTILINE)
"""Lines that can be no boundary and no field: left out where only the structure is read."""


class Leaf(NamedTuple):
    """One leaf, transfer-decoded; `filename` as the reader decoded it."""

    content_type: str
    filename: str
    charset: str
    content: bytes


class TooMuch(Exception):
    """More than the limits of this file; the text says of what."""


class _NoParts(Exception):
    """A multipart without parts: its text is shown by mail programs, and fast-mail-parser does not tell it."""


class _NoReferee(Exception):
    """The referee gave up on the message, or its time is up."""


def read(raw: bytes) -> tuple[list[Leaf], set[str]]:
    """The leaves in order and what is wrong with the structure. Raises TooMuch.

    Has to run in a process's main thread: the referee's time is measured by a signal.
    """
    defects: set[str] = set()
    header = _Header.of(raw)
    raw = header.structure + raw[header.end :]
    leaves = _fast(raw, defects)
    if leaves is not None and header.is_plain:
        return leaves, defects
    try:
        with _processor_time(REFEREE_S):
            return _compared(raw, leaves, defects), defects
    except _NoReferee:
        if leaves is None:
            raise TooMuch("its structure cannot be read") from None
    return leaves, defects | {AMBIGUOUS}


class _Header(NamedTuple):
    """What the readers are given of the message's own header: the fields of MIME are enough, and cheap to read."""

    structure: bytes
    end: int
    is_plain: bool
    """Whether it says all by itself: well formed, each deciding field once at most, and the body is a text."""

    @classmethod
    def of(cls, raw: bytes) -> "_Header":
        """Of a header that is well formed its MIME fields, of another one all."""
        position, met, kept = 0, [], []
        is_text = True
        for field in headers.fields(raw):
            position = field.end
            if field.name.startswith(b"content-"):
                kept.append(raw[field.start : field.end])
                met.append(field.name)
                is_text = is_text and (field.name != b"content-type" or bool(_TEXT.match(raw, field.value_start)))
        end = headers.split(raw)
        if position != end or end == len(raw):
            return cls(raw[:end], end, is_plain=False)
        return cls(b"".join(kept), end, is_plain=is_text and len(met) == len(set(met)))


def _compared(raw: bytes, leaves: list[Leaf] | None, defects: set[str]) -> list[Leaf]:
    """The leaves of both readers; one structure in both eyes needs no second decoding."""
    if leaves is not None and _shape(leaves) == _shape(_referee(_BASE64_RUN.sub(rb"\1", raw))):
        return leaves
    seen = _referee(raw)
    if leaves is None:
        return seen
    defects.add(AMBIGUOUS)
    known = {(leaf.content_type, leaf.filename, leaf.content) for leaf in leaves}
    return leaves + [leaf for leaf in seen if (leaf.content_type, leaf.filename, leaf.content) not in known]


def _shape(leaves: list[Leaf]) -> list[tuple[str, str]]:
    return [(leaf.content_type, leaf.filename.strip()) for leaf in leaves]


def _fast(raw: bytes, defects: set[str]) -> list[Leaf] | None:
    """The leaves as fast-mail-parser sees them, None when it gives up on the message. Raises TooMuch."""
    try:
        return list(_fast_leaves(fast_mail_parser.parse_email_tree(raw, mode="lazy"), defects))
    except (fast_mail_parser.ParseError, _NoParts):
        defects.add(BROKEN)
        return None


def _fast_leaves(root: Any, defects: set[str]) -> Iterator[Leaf]:
    waiting, count = [(root, 1)], 0
    while waiting:
        node, depth = waiting.pop()
        count = _counted(count, depth)
        fields = {name.lower(): values for name, values in node.headers.items()}
        if any(len(fields.get(name, ())) > 1 for name in _DECIDING):
            defects.add(AMBIGUOUS)
        children = node.children
        if children:
            waiting += [(child, depth + 1) for child in reversed(children)]
        else:
            content = node.content
            if content is None:
                raise _NoParts
            declared = fields.get("content-type", [""])[0]
            charset = _CHARSET.search(declared[:2000])
            yield Leaf(_type(declared), node.filename, charset[1] if charset else "", content)


def _referee(raw: bytes) -> list[Leaf]:
    """The leaves as the standard library sees them. Raises TooMuch, _NoReferee."""
    try:
        return list(_referee_leaves(email.message_from_bytes(raw)))
    except (TooMuch, _NoReferee):
        raise
    except Exception as error:
        raise _NoReferee(type(error).__name__) from error


def _referee_leaves(root: "Tree[str, str]") -> Iterator[Leaf]:
    waiting: list[tuple[Any, int]] = [(root, 1)]
    count = 0
    while waiting:
        node, depth = waiting.pop()
        count = _counted(count, depth)
        content_type = _type(str(node.get("content-type", "")))
        if node.is_multipart() and content_type.startswith(("multipart/", "message/rfc822")):
            waiting += [(child, depth + 1) for child in reversed(node.get_payload())]
            continue
        content = node.get_payload(decode=True)
        if content is None:
            content = b"".join(part.as_bytes() for part in node.get_payload())
        yield Leaf(content_type, node.get_filename("") or "", str(node.get_content_charset("")), content)


def _counted(count: int, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise TooMuch(f"it is nested more than {MAX_DEPTH} deep")
    if count == MAX_LEAVES:
        raise TooMuch(f"it has more than {MAX_LEAVES} parts")
    return count + 1


def _type(declared: str) -> str:
    """The type of a Content-Type field in lower case; text/plain where there is none (RFC 2045 section 5.2)."""
    name = declared.partition(";")[0].partition("(")[0].strip().lower()
    return name[:100] if name.count("/") == 1 and name[0] != "/" and name[-1] != "/" else "text/plain"


@contextmanager
def _processor_time(seconds: float) -> Iterator[None]:
    """Raises _NoReferee inside once this process has worked so long."""

    def late(number: int, frame: FrameType | None) -> None:
        raise _NoReferee("late")

    former = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, former)
