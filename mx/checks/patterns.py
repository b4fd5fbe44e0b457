"""Words and patterns as a customer writes them, searched in linear time. The only file that knows RE2.

RE2 takes a time in proportion to text and pattern, whatever either holds, and lets other threads run meanwhile;
Python's `re` can be stopped by one pattern.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import re2

from mx.checks.text import plain

PATTERN_BYTES = 200
PROGRAM_SIZE = 2000
"""Instructions of one compiled pattern; text times this is the worst a search can cost."""
MEMORY_BYTES = 1024 * 1024
"""Of one pattern's states; RE2 goes on without them when there are more."""
WORDS_MEMORY_BYTES = 8 * 1024 * 1024
EXCERPT_CHARS = 40
"""Shown on each side of what was found."""

_EDGE = r"[^\pL\pN_]"
_SPACE = r"[\s\pZ\x0b\x1c-\x1f\x{85}]+"
_SPACES = re.compile(r"\s+")
"""The same in Python, whose white space is what RE2 has and more."""


class BadPattern(ValueError):
    """A pattern that cannot be used; the text says why."""


class Hit(NamedTuple):
    """Where something was found: as it is written in the settings, and as it stands in the text."""

    wanted: str
    excerpt: str


@lru_cache(maxsize=2000)
def compiled(pattern: str) -> Any:
    """The pattern, without regard to case. Raises BadPattern."""
    if len(pattern.encode("utf-8", "replace")) > PATTERN_BYTES:
        raise BadPattern(f"longer than {PATTERN_BYTES} bytes")
    program = _compile(pattern, max_mem=MEMORY_BYTES)
    if program.programsize > PROGRAM_SIZE:
        raise BadPattern("its repetitions make it too large")
    if program.search(""):
        raise BadPattern("fits nothing at all, so it would be found in every mail")
    return program


def by_pattern(patterns: Sequence[str], text: str) -> Hit | None:
    """The first of the patterns that is in the text."""
    for pattern in patterns:
        if found := compiled(pattern).search(text):
            return Hit(pattern, excerpt(text, *found.span()))
    return None


def by_word(words: Sequence[str], text: str) -> Hit | None:
    """The word that comes first in the text.

    Case does not matter, any white space stands for a space, and a word begins and ends where letters and digits do:
    "money" is not in "moneybag". `*` stands for anything but white space.
    """
    if not words:
        return None
    folded = text.casefold()
    found = any_word(tuple(words)).search(folded)
    if found is None:
        return None
    start, end = found.span()
    wanted = _named(words, folded[start:end])
    # Folding may change lengths ("ß" becomes "ss"); then the folded text is shown.
    return Hit(wanted, excerpt(text if len(text) == len(folded) else folded, start, end))


@lru_cache(maxsize=128)
def any_word(words: tuple[str, ...]) -> Any:
    """One program that finds any of the words in folded text.

    Raises BadPattern for a word without anything that can be searched, and when they are too many together.
    """
    by_edges: dict[tuple[bool, bool], list[str]] = {}
    for word in words:
        folded = _folded(word)
        if not folded.replace("*", "").strip():
            raise BadPattern(f"“{word}” holds nothing that can be searched")  # it would be found in every mail
        edges = (folded[0].isalnum(), folded[-1].isalnum())
        source = r"\S*".join(re2.escape(piece).replace(r"\ ", _SPACE) for piece in folded.split("*"))
        by_edges.setdefault(edges, []).append(source)
    # The classes of letters cost hundreds of instructions each, so words share them.
    return _compile("|".join(map(_between, by_edges, by_edges.values())), max_mem=WORDS_MEMORY_BYTES, folded=True)


def _between(edges: tuple[bool, bool], sources: Sequence[str]) -> str:
    left, right = edges
    return (f"(?:^|{_EDGE})" if left else "") + f"(?:{'|'.join(sources)})" + (f"(?:$|{_EDGE})" if right else "")


def _folded(word: str) -> str:
    """A word in the form of the text it is looked for in; white space as one space."""
    return _SPACES.sub(" ", plain(word).casefold()).strip()


def _named(words: Sequence[str], found: str) -> str:
    """Which of the words stands in what was found: the longest that fits, proved by itself."""
    shown = _folded(found)
    fitting = [word for word in words if all(piece in shown for piece in _folded(word).split("*"))]
    for word in sorted(fitting, key=len, reverse=True):
        if any_word((word,)).search(found):
            return word
    return words[0]


def excerpt(text: str, start: int, end: int) -> str:
    """What was found with a little around it, on one line."""
    shown = text[max(0, start - EXCERPT_CHARS) : min(end, start + 4 * EXCERPT_CHARS) + EXCERPT_CHARS]
    return "".join(each if each.isprintable() else " " for each in _SPACES.sub(" ", shown)).strip()


def _compile(source: str, *, max_mem: int, folded: bool = False) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = folded
    options.max_mem = max_mem
    try:
        return re2.compile(source, options)
    except re2.error as error:
        text = error.args[0]
        raise BadPattern(text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)) from error
    except UnicodeError as error:
        raise BadPattern("not text that UTF-8 can hold") from error
