"""What the store refuses, as types: each door (API, panel, mxctl) says them in its own form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class StoreError(Exception):
    """Something that was asked of the store cannot be had; the text is for the customer."""


class Missing(StoreError):
    """There is no such thing, or it belongs to somebody else: nobody is told which."""


class Taken(StoreError):
    """What was to be made is there already."""


class Invalid(StoreError):
    """A value that cannot be stored; `field` names it, `reason` says what would do."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason = field, reason


class Forbidden(StoreError):
    """The viewer may see it, but not do this."""


class TooLate(StoreError):
    """It was possible, and is not any more; the text says what happened meanwhile."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One path at which two documents differ; `before` or `after` is None where there was or is nothing."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Newer:
    """What was saved since the base of a refused change."""

    revision: int
    hash: str
    author: str
    diff: Sequence[Difference] = ()
    present: Mapping[str, Any] = field(default_factory=dict)


class Outdated(StoreError):
    """The change was made on top of a document that has changed since; nothing was stored."""

    def __init__(self, newer: Newer) -> None:
        super().__init__(f"the settings were changed since, in revision {newer.revision} by {newer.author}")
        self.newer = newer
