"""What a search form asks, read from the address. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

LONGEST = 500
"""Characters of one search field; longer ones are cut, never an error."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A search as typed; "" for what is not asked. `since` and `until` are days in UTC, both included."""

    q: str = ""
    sender: str = ""
    recipient: str = ""
    domain: str = ""
    reason: str = ""
    outcome: str = ""
    since: str = ""
    until: str = ""

    @property
    def narrowed(self) -> bool:
        """Whether the fields beside the words are used."""
        return bool(self.sender or self.recipient or self.domain or self.outcome or self.since or self.until)

    @property
    def any(self) -> bool:
        """Whether anything is asked at all."""
        return self.narrowed or bool(self.q or self.reason)

    def parameters(self) -> dict[str, str]:
        """As query parameters."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name))}

    def span(self) -> tuple[datetime | None, datetime | None]:
        """From the start of `since` to the end of `until`. Raises ValueError with a text for the person."""
        since, until = _day(self.since), _day(self.until)
        if since and until and until < since:
            raise ValueError("The last day lies before the first.")
        return since, until + timedelta(days=1) if until else None


def read(arguments: Mapping[str, str]) -> Asked:
    """The search in the address; unknown parameters are ignored."""
    return Asked(**{name: arguments.get(name, "").replace("\x00", "").strip()[:LONGEST] for name in Asked.__slots__})


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) if text else None
    except ValueError as error:
        raise ValueError(f"“{text}” is not a day; write it like 2026-11-24.") from error
