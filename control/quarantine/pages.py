"""Pages of a list that is newest first, and the opaque cursor that names the place behind one. Pure."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

LONGEST_CURSOR = 200
NO_CURSOR = "The cursor is none of ours; begin again at the first page."
_PLACE = re.compile(r"(\d{1,17})\.([0-9A-Za-z.]{1,60})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Rows, newest first; `next` is the cursor of the page behind, None at the end."""

    items: Sequence[R]
    next: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """A place between rows: behind the one of this time and id."""

    at: datetime
    id: str


def cursor(place: Place) -> str:
    """The place as a client carries it."""
    return base64.urlsafe_b64encode(f"{(place.at - _EPOCH) // _MICROSECOND}.{place.id}".encode()).decode().rstrip("=")


def place(text: str) -> Place:
    """The place that a cursor names. Raises ValueError, in words, for what is no cursor of ours."""
    try:
        found = _PLACE.fullmatch(base64.urlsafe_b64decode(text[:LONGEST_CURSOR] + "=" * (-len(text) % 4)).decode())
        if found and len(text) <= LONGEST_CURSOR:
            return Place(_EPOCH + int(found[1]) * _MICROSECOND, found[2])
    except (binascii.Error, UnicodeError, OverflowError, ValueError) as error:
        raise ValueError(NO_CURSOR) from error
    raise ValueError(NO_CURSOR)
