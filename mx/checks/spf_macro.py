"""Macro strings of SPF: text in, tokens out, and their expansion (RFC 7208 section 7). No I/O."""

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

DOMAIN_LETTERS = "slodipvh"
EXPLANATION_LETTERS = "slodipvhcrt"
"""`c`, `r` and `t` are for explanations only (section 7.2)."""

NAME_CHARS = 253
"""An expanded name that is longer loses labels from the left (section 7.3)."""
EXPLANATION_CHARS = 1000
"""More of an explanation is cut: it is shown to people."""

_TOKEN = re.compile(r"%\{([a-z])([0-9]*)(r?)([.\-+,/_=]*)\}|%([%_\-])|([\x21-\x24\x26-\x7e]+)", re.IGNORECASE)
_SIGNS = {"%": "%", "_": " ", "-": "%20"}
_TOP_LABEL = re.compile(r"[a-z0-9]*[a-z][a-z0-9]*|[a-z0-9]+-[a-z0-9\-]*[a-z0-9]", re.IGNORECASE)


class SpfSyntaxError(ValueError):
    """A record, or a macro string of one, that is not RFC 7208's grammar."""


class Macro(NamedTuple):
    """One `%{…}`: which value, how many of its right-hand parts (0: all), reversed, split at what, URL-escaped."""

    letter: str
    keep: int
    is_reversed: bool
    delimiters: str
    is_escaped: bool


MacroString = tuple[str | Macro, ...]


def parse(text: str, letters: str = DOMAIN_LETTERS) -> MacroString:
    """The tokens of a macro string. Raises SpfSyntaxError."""
    tokens: list[str | Macro] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise SpfSyntaxError(f"not a macro string: {text[position : position + 20]!r}")
        tokens.append(_token(match, letters))
        position = match.end()
    return tuple(tokens)


def domain_spec(text: str) -> MacroString:
    """The tokens of a domain-spec, which ends in a top label or a macro (section 7.1). Raises SpfSyntaxError."""
    tokens = parse(text)
    if not tokens:
        raise SpfSyntaxError("a name is missing")
    if isinstance(tokens[-1], str):
        before, dot, last = text.removesuffix(".").rpartition(".")
        if not dot or not (before or len(tokens) > 1) or not _TOP_LABEL.fullmatch(last):
            raise SpfSyntaxError(f"{text[-64:]!r} does not end in a top-level label")
    return tokens


def explanation(text: str) -> MacroString:
    """The tokens of an explanation, in which spaces may stand. Raises SpfSyntaxError."""
    tokens: list[str | Macro] = []
    for piece in re.split("( +)", text):
        tokens += [piece] if piece.startswith(" ") else parse(piece, EXPLANATION_LETTERS)
    return tuple(tokens)


def letters_in(tokens: MacroString) -> set[str]:
    """The values an expansion needs, as letters in lower case."""
    return {token.letter for token in tokens if isinstance(token, Macro)}


def expand(tokens: MacroString, value: Callable[[str], str]) -> str:
    """The text with every macro replaced by `value(letter)`, transformed as it asks."""
    return "".join(token if isinstance(token, str) else _expanded(token, value(token.letter)) for token in tokens)


def expand_name(tokens: MacroString, value: Callable[[str], str]) -> str:
    """An expansion used as a domain name: without a final dot, labels dropped from the left until it fits."""
    name = expand(tokens, value).removesuffix(".")
    if len(name) > NAME_CHARS:
        _, _, name = name[-NAME_CHARS - 1 :].partition(".")
    return name


def _token(match: re.Match[str], letters: str) -> str | Macro:
    letter, digits, reverse, delimiters, sign, text = match.groups()
    if text:
        return str(text)
    if sign:
        return _SIGNS[sign]
    if letter.lower() not in letters:
        raise SpfSyntaxError(f"no macro {letter!r} here")
    if digits and not digits.strip("0"):
        raise SpfSyntaxError("a macro keeps at least one part")
    keep = int(digits) if len(digits) < 4 and digits else 0  # nobody has a thousand parts: that keeps them all
    return Macro(letter.lower(), keep, bool(reverse), delimiters or ".", letter.isupper())


def _expanded(macro: Macro, value: str) -> str:
    if macro.keep or macro.is_reversed or macro.delimiters != ".":
        parts = re.split(f"[{re.escape(macro.delimiters)}]", value)
        if macro.is_reversed:
            parts.reverse()
        value = ".".join(parts[-macro.keep :])
    return quote(value, safe="-._~") if macro.is_escaped else value
