"""The conditions of a search over kept mail or over messages, put together as SQL with parameters. Pure.

Nothing that a person typed ever becomes part of the SQL text.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from ulid import ULID

from control.auth import Viewer
from control.quarantine.words import clean
from control.store import names
from control.store.errors import Invalid

CLOCKS_DIFFER = timedelta(hours=1)
"""How far the time in an id and the time of its row may lie apart: both are taken at the start of the transaction."""
_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}(\.\d{1,5})?", re.ASCII)


class Where:
    """Conditions that all have to hold, and the values of their parameters.

    Several parts of one statement share their `values`.
    """

    def __init__(self, values: list[Any] | None = None) -> None:
        self._conditions: list[str] = []
        self.values: list[Any] = [] if values is None else values

    def add(self, condition: str, *values: Any) -> None:
        """One more; each `{}` in it stands for the next of the values."""
        first = len(self.values) + 1
        self._conditions.append(condition.format(*(f"${first + n}" for n in range(len(values)))))
        self.values += values

    def add_sql(self, condition: str) -> None:
        """One more, which names its parameters in `values` already."""
        self._conditions.append(condition)

    @property
    def sql(self) -> str:
        """The conditions behind "where"."""
        return " and ".join(self._conditions) or "true"

    def scope(self, viewer: Viewer, domain: str | None) -> None:
        """Only what the viewer may see, and of that only this domain's; another's domain has nothing."""
        if viewer.account_id is not None:
            self.add("account_id = {}", viewer.account_id)
        if domain is not None:
            self.add("domain = (select number from domains where name = {})", domain_name(domain))

    def span(self, since: datetime | None, until: datetime | None) -> None:
        """From `since` on, before `until`; this is what leaves whole days of the store untouched."""
        if since is not None:
            self.add("received_at >= {}", since)
        if until is not None:
            self.add("received_at < {}", until)

    def near(self, txn: str) -> None:
        """Near the time that a transaction's id carries."""
        if (at := time_of(txn)) is not None:
            self.span(at - CLOCKS_DIFFER, at + CLOCKS_DIFFER)

    def address(self, column: str, typed: str | None) -> None:
        """See `address`; nothing where nothing was typed."""
        if typed is not None:
            self.add(*address(column, typed))


def address(column: str, typed: str) -> tuple[str, ...]:
    """The condition and its values for an address typed whole, a whole domain (`@sender.test`), the null sender
    (`<>`), or any piece of one."""
    wanted = clean(typed).strip()
    if wanted == "<>":
        return (f"{column} = ''",)
    if is_piece(wanted):
        return f"strpos(lower({column}), lower({{}})) > 0", wanted
    if wanted.startswith("@"):
        return f"right(lower({column}), length({{}})) = lower({{}})", wanted, wanted
    return f"lower({column}) = lower({{}})", wanted


def is_piece(wanted: str) -> bool:
    """Whether it is neither a whole address, nor a whole domain, nor the null sender."""
    _, at, domain = wanted.rpartition("@")
    return wanted != "<>" and not (at and "." in domain)


def domain_name(typed: str) -> str:
    """A domain's name as it is stored; "" for what is none."""
    try:
        return names.domain(clean(typed))
    except Invalid:
        return ""


def is_id(text: str) -> bool:
    """Whether this can be the id of a transaction, or of one of its recipients (id.number)."""
    return _ID.fullmatch(text) is not None


def time_of(txn: str) -> datetime | None:
    """The time in a transaction's id; None for what is no id, or of no time that a calendar has."""
    if not is_id(txn):
        return None
    try:
        at = datetime.fromtimestamp(ULID.from_str(txn[:26]).timestamp, UTC)
        return at if timedelta(days=2) < at - datetime.min.replace(tzinfo=UTC) and at.year < 9999 else None
    except (ValueError, OverflowError, OSError):
        return None
