"""An SPF record by its grammar: text in, directives and modifiers out (RFC 7208 sections 4.5, 4.6, 5, 6). No I/O.

The whole record is read before anything of it is evaluated: a syntax error anywhere makes it worthless.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mx.checks import spf_macro
from mx.checks.spf_macro import MacroString, SpfSyntaxError

Qualified = Literal["pass", "fail", "softfail", "neutral"]

_VERSION = re.compile(rb"v=spf1(?: |\Z)", re.IGNORECASE)
_QUALIFIERS: dict[str, Qualified] = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral", "": "pass"}
_MODIFIER = re.compile(r"([a-z][a-z0-9\-_.]*)=(.*)", re.IGNORECASE | re.DOTALL)
_DIRECTIVE = re.compile(r"([+\-~?]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?![^:/])(.*)", re.IGNORECASE | re.DOTALL)
_CIDR = re.compile(r"(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?\Z")
_NETWORK = re.compile(r":([0-9a-f.:]+)(?:/(0|[1-9][0-9]{0,2}))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Directive:
    """One mechanism with its qualifier. `name` is () where it means the current domain."""

    text: str
    result: Qualified
    mechanism: str
    name: MacroString = ()
    bits4: int = 32
    bits6: int = 128
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None


@dataclass(frozen=True, slots=True)
class SpfRecord:
    """A record; `redirect` and `explanation` are () where it has none."""

    directives: tuple[Directive, ...]
    redirect: MacroString = ()
    explanation: MacroString = ()


def select(texts: Sequence[bytes]) -> bytes | None:
    """The one SPF record among a name's TXT records, None where there is none (section 4.5).

    Raises SpfSyntaxError when there are several.
    """
    records = [text for text in texts if _VERSION.match(text)]
    if len(records) > 1:
        raise SpfSyntaxError(f"{len(records)} SPF records")
    return records[0] if records else None


def parse(raw: bytes) -> SpfRecord:
    """The record's terms. Raises SpfSyntaxError."""
    try:
        terms = raw[len(b"v=spf1") :].decode("ascii").split(" ")
    except UnicodeDecodeError as error:
        raise SpfSyntaxError("a byte that is not ASCII") from error
    directives: list[Directive] = []
    modifiers: dict[str, MacroString] = {}
    for term in filter(None, terms):
        if modifier := _MODIFIER.fullmatch(term):
            _modify(modifiers, modifier[1].lower(), modifier[2])
        else:
            directives.append(_directive(term))
    return SpfRecord(tuple(directives), modifiers.get("redirect", ()), modifiers.get("exp", ()))


def _modify(modifiers: dict[str, MacroString], name: str, value: str) -> None:
    if name not in ("redirect", "exp"):
        spf_macro.parse(value)  # an unknown modifier is ignored, but its value has to be a macro string (section 6)
        return
    if name in modifiers:
        raise SpfSyntaxError(f"{name}= twice")
    modifiers[name] = spf_macro.domain_spec(value)


def _directive(term: str) -> Directive:
    match = _DIRECTIVE.fullmatch(term)
    if match is None:
        raise SpfSyntaxError(f"no such mechanism: {term[:40]!r}")
    qualifier, mechanism, rest = match[1], match[2].lower(), match[3]
    shown = term[:200]
    result = _QUALIFIERS[qualifier]
    if mechanism == "all":
        if rest:
            raise SpfSyntaxError("`all` takes nothing")
        return Directive(shown, result, mechanism)
    if mechanism in ("ip4", "ip6"):
        return Directive(shown, result, mechanism, network=_network(mechanism, rest))
    bits4, bits6 = 32, 128
    if mechanism in ("a", "mx"):
        rest, bits4, bits6 = _cidr(rest)
    return Directive(shown, result, mechanism, _name(mechanism, rest), bits4, bits6)


def _name(mechanism: str, rest: str) -> MacroString:
    if rest.startswith(":"):
        return spf_macro.domain_spec(rest[1:])
    if rest or mechanism in ("include", "exists"):
        raise SpfSyntaxError(f"`{mechanism}` needs a name, not {rest[:40]!r}")
    return ()


def _cidr(rest: str) -> tuple[str, int, int]:
    """Split `:name/24//64` into the name's part and both lengths (section 5.6)."""
    match = _CIDR.search(rest)
    bits4, bits6 = (match[1], match[2]) if match else (None, None)
    if (bits4 and int(bits4) > 32) or (bits6 and int(bits6) > 128):
        raise SpfSyntaxError(f"no such prefix length: {rest[-20:]!r}")
    return rest[: match.start()] if match else rest, int(bits4 or 32), int(bits6 or 128)


def _network(mechanism: str, rest: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    match = _NETWORK.fullmatch(rest)
    try:
        if match is None:
            raise ValueError(rest)
        kind = ipaddress.IPv4Network if mechanism == "ip4" else ipaddress.IPv6Network
        return kind(match[1] if match[2] is None else f"{match[1]}/{match[2]}", strict=False)
    except ValueError as error:
        raise SpfSyntaxError(f"`{mechanism}` needs an address, not {rest[:60]!r}") from error
