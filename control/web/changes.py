"""The difference of two settings documents, as the panel shows it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from control.web import words

SHOWN = 12
"""Added or removed items of one list that are shown; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs."""

    path: str
    removed: tuple[str, ...]
    added: tuple[str, ...]


def between(before: Any, after: Any, path: str = "") -> list[Change]:
    """Every path at which the two differ; lists by their items, everything else by value."""
    if before == after:
        return []
    if isinstance(before, Mapping | None) and isinstance(after, Mapping | None) and (before or after):
        names = dict.fromkeys([*(before or {}), *(after or {})])
        return [
            change
            for name in names
            for change in between((before or {}).get(name), (after or {}).get(name), f"{path}.{name}" if path else name)
        ]
    if isinstance(before, list | None) and isinstance(after, list | None):
        old, new = before or [], after or []
        gone, came = [each for each in old if each not in new], [each for each in new if each not in old]
        return [Change(path, _clipped(gone), _clipped(came))]
    return [Change(path, _one(before), _one(after))]


def _one(value: Any) -> tuple[str, ...]:
    return () if value is None else (words.plain(value),)


def _clipped(values: list[Any]) -> tuple[str, ...]:
    shown = tuple(words.plain(each) for each in values[:SHOWN])
    return (*shown, f"and {len(values) - SHOWN} more") if len(values) > SHOWN else shown
