"""Words of kept mail: how they are told apart in the indexes, and how they are asked for. Pure.

Index and search take text apart by the same rule, so that whatever stands in a subject, a name or an address is found
by typing it: `ann@sender.test` is the three words ann, sender, test in a row. Where in the header a word stands is
its weight in the index (`header_words` in the database); in the index of bodies, D is the body's text.
"""

import re
from collections.abc import Iterable
from enum import Enum

LONGEST_WORD = 64
"""Characters; what is longer in a body is no word that anybody types, but encoded data."""
_APART = re.compile(r"[\W_]+")


class Part(Enum):
    """A part of the mail by its weight in the index; `ANY` asks for no weight."""

    ANY = ""
    SUBJECT = "A"
    SENDER = "B"
    RECIPIENT = "C"
    BODY = "D"


def indexed(*texts: str) -> str:
    """The words of some texts with a space between, for `to_tsvector('simple', …)`."""
    return " ".join(word for text in texts for word in split(text))


def of_header(subject: str, senders: Iterable[str], recipient: str, names: Iterable[str], most: int) -> str:
    """The four lines of words that the database's `header_words` takes; at most so many characters."""
    return "\n".join((indexed(subject), indexed(*senders), indexed(recipient), indexed(*names)))[:most]


def in_a_row(text: str, part: Part = Part.ANY, *, is_beginning: bool = False) -> str:
    """The text's words in a row, as a term for `to_tsquery('simple', …)`; "" when there is no word in it."""
    return _joined(text, part, " <-> ", is_beginning)


def all_of(text: str) -> str:
    """The text's words in any places: what an index alone can answer, where a row has to be looked at anyway."""
    return _joined(text, Part.ANY, " & ", is_beginning=False)


def clean(text: str) -> str:
    """Text as PostgreSQL can take it: without NUL and without lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def split(text: str) -> list[str]:
    """The words of a text, in their order."""
    return [word for word in _APART.split(text) if word]


def of_body(text: str, most: int) -> str:
    """The first `most` words of a body's text, what is too long for a word left out."""
    return " ".join([word for word in split(text) if len(word) <= LONGEST_WORD][:most])


def _joined(text: str, part: Part, by: str, is_beginning: bool) -> str:
    # The words are letters and digits alone: nothing in them can end a quoted lexeme.
    found = [f"'{word}'" for word in split(clean(text))]
    marks = [f":{part.value}" if part.value else ""] * len(found)
    if found and is_beginning:
        marks[-1] = f":*{part.value}"
    return f"({by.join(word + mark for word, mark in zip(found, marks, strict=True))})" if found else ""
