"""What may be typed into the search of kept mail: the fields, declared once, and the terms that a text means. Pure.

The parser, the completion in the panel, `GET /quarantine/fields`, the table in docs/quarantine.md and the words of
every error are drawn from `FIELDS`.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from control.quarantine import words

MOST_TERMS = 32
"""Words, phrases and fields in one search."""
FREE = ""
"""The name of terms without a field."""
_TERM = re.compile(r'(?P<minus>-?)(?:(?P<name>[A-Za-z]+):(?!//))?(?:"(?P<phrase>[^"]*)"?|(?P<word>\S+))?')
_NUMBER = re.compile(r"(>=|<=|>|<|=)?(-?\d{1,9}(?:\.\d{1,3})?)", re.ASCII)
_SIZE = re.compile(r"(>=|<=|>|<|=)?(\d{1,9}(?:\.\d{1,3})?)([kmg]?)b?", re.ASCII | re.IGNORECASE)
_UNIT = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3}
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_ONE_DAY = timedelta(days=1)


class Wrong(ValueError):
    """What was typed cannot be read: the text says what is wrong and what to write.

    The trouble stands from character `start` to before `end`.
    """

    def __init__(self, text: str, start: int, end: int) -> None:
        super().__init__(text)
        self.start, self.end = start, end


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. `value` is what the field's reader made of the text: a text, a number, a time, a network.

    `by` is the comparison of numbers; `is_beginning` says that a word may go on (`inv*`).
    """

    name: str
    value: Any
    by: str = "="
    is_negated: bool = False
    is_beginning: bool = False


Read = Callable[[str], tuple[str, Any]]
"""Makes (comparison, value) of what stands behind the colon; raises ValueError for what it cannot take."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the grammar: its name before the colon, what it finds, what is to be written, and an example.

    `values` are all that it takes, where it takes few.
    """

    name: str
    finds: str
    wants: str
    example: str
    read: Read
    values: tuple[str, ...] = ()


def _text(typed: str) -> tuple[str, Any]:
    if not typed.strip():
        raise ValueError
    return "=", words.clean(typed).strip()


def _spelled(typed: str) -> tuple[str, Any]:
    """Words: a text without a letter or digit finds nothing, which nobody can have meant."""
    if not words.split(words.clean(typed)):
        raise ValueError
    return "=", words.clean(typed)


def _network(typed: str) -> tuple[str, Any]:
    return "=", ipaddress.ip_network(typed.partition("%")[0], strict=False)


def _number(typed: str) -> tuple[str, Any]:
    found = _NUMBER.fullmatch(typed)
    if not found:
        raise ValueError
    return found[1] or ">=", float(found[2])


def _size(typed: str) -> tuple[str, Any]:
    found = _SIZE.fullmatch(typed)
    if not found:
        raise ValueError
    return found[1] or ">=", round(float(found[2]) * _UNIT[found[3].lower()])


def _day(typed: str) -> tuple[str, Any]:
    if not _DAY.fullmatch(typed):
        raise ValueError
    day = date.fromisoformat(typed)
    return "=", datetime(day.year, day.month, day.day, tzinfo=UTC)


def _after(typed: str) -> tuple[str, Any]:
    by, day = _day(typed)
    return by, day + _ONE_DAY if day.year < 9999 else day


def _one_of(*values: str) -> Read:
    def read(typed: str) -> tuple[str, Any]:
        if typed.lower() not in values:
            raise ValueError
        return "=", typed.lower()

    return read


_ADDRESS = "an address, a piece of one, @domain, or <>"
STATES = ("kept", "released", "deleted")
FIELDS: tuple[Field, ...] = (
    Field("from", "the envelope sender, or the From field", _ADDRESS, "from:ann@shop.example", _text),
    Field("to", "the recipient", _ADDRESS, "to:bob@example.org", _text),
    Field("subject", "words of the subject", "a word, or words in quotes", 'subject:"your invoice"', _spelled),
    Field("body", "words of the text", "a word, or words in quotes", "body:unsubscribe", _spelled),
    Field("ip", "the client's address", "an address or a network", "ip:192.0.2.0/24", _network),
    Field("reason", "why it was kept", "a filter's name, score or next_hop", "reason:score", _text),
    Field("filter", "the filter that decided", "a filter's name", "filter:dnsbl", _text),
    Field("node", "the node that took it", "a node's name", "node:mx1", _text),
    Field("score", "the score", "a number, with > or < before it", "score:>8", _number),
    Field("size", "the size of the mail", "bytes, or with k, M or G, and > or < before it", "size:>1M", _size),
    Field("has", "mail that has it", "attachment", "has:attachment", _one_of("attachment"), ("attachment",)),
    Field("before", "what came before a day", "a day (UTC)", "before:2026-11-24", _day),
    Field("after", "what came after a day", "a day (UTC)", "after:2026-11-20", _after),
    Field("is", "what has become of it", "kept, released or deleted", "is:released", _one_of(*STATES), STATES),
)
BY_NAME = {field.name: field for field in FIELDS}


def parse(typed: str) -> tuple[Term, ...]:
    """The terms of a text, all of which have to fit. Raises Wrong.

    A term is a word, the beginning of a word (`inv*`), a phrase in quotes, or a field with a colon; a minus before it
    means that it must not be so. AND between terms may be written.
    """
    found: list[Term] = []
    at = 0
    while at < len(typed):
        if typed[at].isspace():
            at += 1
            continue
        match = _TERM.match(typed, at)
        end = max(match.end(), at + 1) if match else at + 1
        if match and (term := _term(match, typed)):
            found.append(term)
        if len(found) > MOST_TERMS:
            raise Wrong(f"A search takes at most {MOST_TERMS} words; leave some out.", at, len(typed))
        at = end
    return tuple(found)


def _term(match: re.Match[str], typed: str) -> Term | None:
    minus, name, phrase, word = match.group("minus", "name", "phrase", "word")
    text = phrase if phrase is not None else word or ""
    if name is None or (name.lower() not in BY_NAME and not text):
        return _free(bool(minus), (name or "") + text, is_word=phrase is None)
    start = match.start("name")
    field = BY_NAME.get(name.lower())
    if field is None:
        raise Wrong(_unknown(name), start, match.end("name") + 1)
    try:
        by, value = field.read(text)
    except ValueError as error:
        raise Wrong(_unfit(field, text), start, match.end()) from error
    is_beginning = phrase is None and text.endswith("*")
    return Term(field.name, value, by, bool(minus), is_beginning)


def _free(is_negated: bool, text: str, *, is_word: bool) -> Term | None:
    """A term of free words; None for signs alone, and for an AND between terms."""
    if not words.split(words.clean(text)) or (is_word and not is_negated and text == "AND"):
        return None
    return Term(FREE, words.clean(text), is_negated=is_negated, is_beginning=is_word and text.endswith("*"))


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), BY_NAME, 1, 0.6)
    instead = f"did you mean {near[0]}:?" if near else f"there are {', '.join(f'{each}:' for each in BY_NAME)}."
    return f'There is no field {name}: – {instead} To find it as words, put it in quotes: "{name}:…"'


def _unfit(field: Field, text: str) -> str:
    what = f"“{text}” does not fit {field.name}:" if text else f"{field.name}: has nothing behind it"
    return f"{what} – write {field.wants}, without a space after the colon, like {field.example}"
