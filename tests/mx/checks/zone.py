"""A resolver that answers from a table in memory: simulated, for suites that bring their own DNS."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from mx.filter import DnsUnsure

Records = Mapping[str, Sequence[Any]]
"""Name in lower case → records `{"TXT": …}` and the word TIMEOUT, as the openspf suite writes them."""

MAX_ALIASES = 8


class Zone:
    """The Resolver protocol over records of the openspf suite's form; counts the questions."""

    def __init__(self, records: Records) -> None:
        self._records = {name.lower(): list(entries) for name, entries in records.items()}
        self.asked: list[tuple[str, str]] = []

    async def a(self, name: str) -> tuple[str, ...]:
        """As the protocol."""
        return tuple(str(value) for value in self._values(name, "A"))

    async def aaaa(self, name: str) -> tuple[str, ...]:
        """As the protocol."""
        return tuple(str(value) for value in self._values(name, "AAAA"))

    async def txt(self, name: str) -> tuple[bytes, ...]:
        """As the protocol. A type-SPF record counts as TXT where the suite gives none of its own."""
        found = self._values(name, "TXT")
        if not found and not any("TXT" in entry for entry in self._records.get(name.lower(), ()) if entry != "TIMEOUT"):
            found = self._values(name, "SPF")
        return tuple(_joined(value) for value in found)

    async def mx(self, name: str) -> tuple[tuple[int, str], ...]:
        """As the protocol."""
        return tuple(sorted((int(preference), str(host)) for preference, host in self._values(name, "MX")))

    async def ptr(self, address: str) -> tuple[str, ...]:
        """As the protocol."""
        return tuple(str(value) for value in self._values(ipaddress.ip_address(address).reverse_pointer, "PTR"))

    def _values(self, name: str, kind: str, aliases: int = 0) -> list[Any]:
        self.asked.append((name, kind))
        entries = self._records.get(name.lower(), [])
        found = [entry[kind] for entry in entries if entry != "TIMEOUT" and entry.get(kind, "NONE") != "NONE"]
        if "TIMEOUT" in found or (not found and "TIMEOUT" in entries):
            raise DnsUnsure(f"{name} {kind}: no answer in time")
        alias = next((entry["CNAME"] for entry in entries if entry != "TIMEOUT" and "CNAME" in entry), None)
        if alias and not found and aliases < MAX_ALIASES:
            return self._values(str(alias), kind, aliases + 1)
        return found


def _joined(value: Any) -> bytes:
    pieces = value if isinstance(value, list) else [value]
    return b"".join(piece.encode("latin-1") for piece in pieces)
