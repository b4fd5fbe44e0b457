"""Whether a client may send for a domain: the check_host() function of SPF (RFC 7208) on the node's resolver.

Grammar is in `spf_record` and `spf_macro`, the macros' values in `spf_values`; here they are evaluated. Only TXT is
asked (section 3.1). Every look-up goes through the resolver, which brings deadline and cache.
"""

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from mx.checks import spf_macro, spf_record, spf_values
from mx.checks.spf_macro import MacroString, SpfSyntaxError
from mx.checks.spf_record import Directive, SpfRecord
from mx.checks.spf_values import Asked
from mx.filter import DnsUnsure, Resolver

MAX_LOOKUPS = 10
"""Terms that ask DNS: include, a, mx, ptr, exists, redirect (section 4.6.4)."""
MAX_VOID = 2
"""Terms whose question has no answer (section 4.6.4)."""
MAX_HOSTS = 10
"""Hosts of an MX, names of an address (section 4.6.4)."""

Result = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spf:
    """What SPF says of a client. A result is a fact, never a decision.

    `mechanism` is the directive that matched as it stands in the record, or why there is an error; ""
    where none matched. `explanation` is the domain owner's own text (exp=), at most 1,000 printable ASCII
    characters from a stranger, set for "fail" only. `lookups` counts the terms that asked DNS.
    """

    result: Result
    domain: str
    identity: Literal["mailfrom", "helo"]
    mechanism: str = ""
    explanation: str = ""
    lookups: int = 0


async def check(
    resolver: Resolver, *, client_ip: str, sender: str, helo: str, receiver: str = "unknown", now: float
) -> Spf:
    """Evaluate SPF for the envelope sender, or for `postmaster@HELO` when `sender` is "" (section 2.4).

    `receiver` and `now` (seconds since 1970) serve the macros r and t. Never raises for anything that
    sender, HELO or DNS say; `client_ip` has to be an address (ValueError).
    """
    identity: Literal["mailfrom", "helo"] = "mailfrom" if sender else "helo"
    local_part, _, domain = (sender or f"postmaster@{helo}").rpartition("@")
    domain = spf_values.a_label(domain)
    asked = Asked(spf_values.client(client_ip), local_part or "postmaster", domain, helo, receiver, int(now))
    evaluation = _Evaluation(resolver, asked)
    end = await evaluation.end(domain)
    said = await evaluation.explained(end)
    return Spf(end.result, domain, identity, end.mechanism, said, evaluation.lookups)


@dataclass(frozen=True, slots=True)
class _End:
    """How the evaluation of one domain ended, and where an explanation would be."""

    result: Result
    mechanism: str = ""
    domain: str = ""
    explanation: MacroString = ()


class _Permanent(Exception):
    """The record cannot be evaluated as it is published; becomes "permerror"."""


class _Evaluation:
    """One check; counts what it asks across includes and redirects."""

    def __init__(self, resolver: Resolver, asked: Asked) -> None:
        self._resolver, self._asked = resolver, asked
        self._client = asked.client
        self._validated: tuple[str, ...] | None = None
        self.lookups = 0
        self._void = 0

    async def end(self, domain: str) -> _End:
        """The result for a domain, errors included."""
        try:
            return await self._host(domain)
        except (_Permanent, SpfSyntaxError) as error:
            return _End("permerror", str(error)[:200])
        except DnsUnsure as error:
            return _End("temperror", str(error)[:200])

    async def explained(self, end: _End) -> str:
        """The domain owner's explanation of a failure, "" where anything is wrong with it (section 6.2)."""
        if end.result != "fail" or not end.explanation:
            return ""
        try:
            texts = await self._resolver.txt(await self._name(end.explanation, end.domain))
            if len(texts) != 1:
                return ""
            tokens = spf_macro.explanation(texts[0].decode("ascii"))
            said = spf_macro.expand(tokens, await self._values(tokens, end.domain))
        except (DnsUnsure, SpfSyntaxError, UnicodeDecodeError):
            return ""  # section 6.2: then the result stands without one
        return said[: spf_macro.EXPLANATION_CHARS] if said.isascii() and said.isprintable() else ""

    async def _host(self, domain: str) -> _End:
        """check_host() of section 4. Raises _Permanent, SpfSyntaxError, DnsUnsure."""
        record = await self._record(domain)
        if record is None:
            return _End("none")
        for directive in record.directives:
            if await self._matches(directive, domain):
                return _End(directive.result, directive.text, domain, record.explanation)
        if not record.redirect:
            return _End("neutral")
        self._count()
        end = await self._host(await self._name(record.redirect, domain))
        if end.result == "none":
            raise _Permanent("redirect= to a domain without an SPF record")
        return end

    async def _record(self, domain: str) -> SpfRecord | None:
        if not spf_values.is_domain(domain):
            return None
        raw = spf_record.select(await self._resolver.txt(domain))
        return None if raw is None else spf_record.parse(raw)

    async def _matches(self, directive: Directive, domain: str) -> bool:
        mechanism = directive.mechanism
        if mechanism == "all":
            return True
        if directive.network is not None:
            return self._client.version == directive.network.version and self._client in directive.network
        self._count()
        target = await self._name(directive.name, domain) if directive.name else domain
        if mechanism == "include":
            return await self._included(target)
        if mechanism == "exists":
            return bool(self._answered(await self._resolver.a(target)))
        if mechanism == "ptr":
            self._answered(await self._pointers())
            return any(spf_values.is_below(name, target) for name in await self._names())
        bits = directive.bits4 if self._client.version == 4 else directive.bits6
        if mechanism == "a":
            return self._within(self._answered(await self._addresses(target)), bits)
        return await self._mx(target, bits)

    async def _included(self, domain: str) -> bool:
        """The table of section 5.2."""
        end = await self._host(domain)
        if end.result == "none":
            raise _Permanent("include of a domain without an SPF record")
        return end.result == "pass"

    async def _mx(self, target: str, bits: int) -> bool:
        hosts = self._answered(await self._resolver.mx(target))
        if len(hosts) > MAX_HOSTS:
            raise _Permanent(f"`mx` with more than {MAX_HOSTS} hosts")
        for _, host in hosts:
            if self._within(await self._addresses(host), bits):
                return True
        return False

    async def _pointers(self) -> tuple[str, ...]:
        """The client's names as it publishes them, the first ten (section 4.6.4); none where DNS fails."""
        try:
            return (await self._resolver.ptr(str(self._client)))[:MAX_HOSTS]
        except DnsUnsure:
            return ("",)  # section 5.5: the mechanism does not match, but this is no void answer either

    async def _names(self) -> tuple[str, ...]:
        """Those of the client's names that point back to it (section 5.5). Looked up once."""
        if self._validated is None:
            self._validated = tuple([name for name in await self._pointers() if await self._points_back(name)])
        return self._validated

    async def _points_back(self, name: str) -> bool:
        try:
            return name != "" and self._within(await self._addresses(name), self._client.max_prefixlen)
        except DnsUnsure:
            return False  # section 5.5: this name is skipped

    async def _addresses(self, name: str) -> tuple[str, ...]:
        return await (self._resolver.a(name) if self._client.version == 4 else self._resolver.aaaa(name))

    def _within(self, addresses: Iterable[str], bits: int) -> bool:
        """Whether one of the addresses has its first `bits` in common with the client."""
        shift = self._client.max_prefixlen - bits
        wanted = int(self._client) >> shift
        return any(int(ipaddress.ip_address(address)) >> shift == wanted for address in addresses)

    def _count(self) -> None:
        self.lookups += 1
        if self.lookups > MAX_LOOKUPS:
            raise _Permanent(f"more than {MAX_LOOKUPS} terms that ask DNS")

    def _answered(self, answer: tuple[T, ...]) -> tuple[T, ...]:
        if not answer:
            self._void += 1
            if self._void > MAX_VOID:
                raise _Permanent(f"more than {MAX_VOID} terms without an answer")
        return answer

    async def _name(self, tokens: MacroString, domain: str) -> str:
        return spf_macro.expand_name(tokens, await self._values(tokens, domain))

    async def _values(self, tokens: MacroString, domain: str) -> Callable[[str], str]:
        """The values of the macros in `tokens`; the client's names are asked only for those that want `p`."""
        names = await self._names() if "p" in spf_macro.letters_in(tokens) else ()
        below = [name for name in names if spf_values.is_below(name, domain)]
        same = [name for name in below if name.lower() == domain.lower()]
        validated = next(iter((*same, *below, *names)), "unknown")
        return lambda letter: self._asked.value(letter, domain, validated)
