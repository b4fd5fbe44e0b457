"""Whose a recipient's mail is, and for how many days its domain keeps it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mx.filters.sections import Retention
from syncd.layers import Document, resolve

DEFAULT_DAYS = Retention().days
LONGEST_DAYS = 366
NO_DOMAIN = 0
"""Number of a domain that the account serves no longer, or that was never ours."""

_Setting = tuple[Document, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Owner:
    """Number of the domain, its account, and the days its mail is kept."""

    number: int
    account_id: str
    days: int


class Owners:
    """The domains asked for, as they were when `load` read them."""

    def __init__(self, domains: Mapping[str, tuple[int, str]], layers: Mapping[tuple[str, str], _Setting]) -> None:
        self._domains, self._layers = domains, layers

    def of(self, domain: str, account: str) -> Owner:
        """The owner of mail for this domain that a node judged for this account ("" when it did not know any).

        A domain that has changed hands since, or is gone, keeps its mail with the account it came for: number 0.
        """
        number, owner = self._domains.get(domain, (NO_DOMAIN, ""))
        if account and account != owner:
            number, owner = NO_DOMAIN, account
        return Owner(number, owner, self._days(domain if number else "", owner))

    def by_number(self) -> dict[int, int]:
        """Days kept, for every domain that was asked for."""
        return {number: self._days(name, account) for name, (number, account) in self._domains.items()}

    def default(self) -> int:
        """Days kept where neither domain nor account says anything."""
        return self._days("", "")

    def _days(self, domain: str, account: str) -> int:
        places = (("system", ""), ("account", account), ("domain", domain))
        found = resolve([self._layers[place] for place in places if place in self._layers])
        days = found.get("retention", {}).get("days", DEFAULT_DAYS)
        return max(1, min(days, LONGEST_DAYS)) if isinstance(days, int) else DEFAULT_DAYS


async def load(connection: Any, names: Collection[str] | None = None) -> Owners:
    """Read the owners of these domains (None: of all)."""
    wanted = None if names is None else list(names)
    domains = await connection.fetch(
        "select name, number, account_id from domains where $1::text[] is null or name = any($1)", wanted
    )
    layers = await connection.fetch(
        "select scope, name, (settings->'retention')::text as retention, locks::text from layers"
        " where (settings ? 'retention' or locks <> '[]')"
        " and (scope <> 'domain' or $1::text[] is null or name = any($1))",
        wanted,
    )
    return Owners(
        {row["name"]: (row["number"], row["account_id"]) for row in domains},
        {(row["scope"], row["name"]): _setting(row["retention"], row["locks"]) for row in layers},
    )


def _setting(retention: str | None, locks: str) -> _Setting:
    document = {"retention": msgspec.json.decode(retention)} if retention else {}
    return document, tuple(msgspec.json.decode(locks))
