"""Words of kept mail: how they are told apart in the index, and what a search for them means. Pure.

Index and search take text apart by the same rule, so that whatever stands in a subject, a name or an address is found
by typing it: `ann@sender.test` is the three words ann, sender, test in a row.
"""

import re
from collections.abc import Iterable

MOST_TERMS = 32
"""Words and phrases in one search."""
_APART = re.compile(r"[\W_]+")
_TERM = re.compile(r'(-?)(?:"([^"]*)"?|(\S+))')


def indexed(*texts: str) -> str:
    """The words of some texts with a space between, for `to_tsvector('simple', …)`."""
    return " ".join(word for text in texts for word in _split(text))


def tsquery(typed: str) -> str:
    """What was typed as text for `to_tsquery('simple', …)`; "" when there is no word in it.

    Every term has to fit: a word, the beginning of a word (`inv*`), a phrase in quotes; a minus before it means that
    it must not be there. AND between them may be written. Raises ValueError for more than `MOST_TERMS`.
    """
    terms = [term for term in map(_term, _TERM.finditer(clean(typed))) if term]
    if len(terms) > MOST_TERMS:
        raise ValueError(f"A search takes at most {MOST_TERMS} words; leave some out.")
    return " & ".join(terms)


def clean(text: str) -> str:
    """Text as PostgreSQL can take it: without NUL and without lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _term(found: re.Match[str]) -> str:
    minus, phrase, word = found.groups()
    if not minus and word == "AND":
        return ""
    parts = _split(phrase if phrase is not None else word)
    if not parts:
        return ""
    # The parts are letters and digits alone: nothing in them can end a quoted lexeme.
    quoted = " <-> ".join(f"'{part}'" for part in parts)
    is_beginning = word is not None and word.endswith("*")
    return f"{'!' if minus else ''}({quoted}{':*' if is_beginning else ''})"


def _split(text: str) -> Iterable[str]:
    return [word for word in _APART.split(text) if word]
