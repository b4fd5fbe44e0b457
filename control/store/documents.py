"""Settings documents as values: merging a patch into one, and how two differ. Pure."""

from collections.abc import Mapping
from typing import Any

from control.store.errors import Difference

DEEPEST = 8
"""Settings are section → field → value; what nests deeper than this is nobody's setting."""


def merge(target: Any, patch: Any) -> Any:
    """The target with a JSON merge patch applied (RFC 7396 section 2); neither argument is changed."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def pruned(document: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The document without sections that set nothing, so that equal settings have equal bytes."""
    return {section: dict(fields) for section, fields in document.items() if fields}


def differences(before: Any, after: Any, path: str = "") -> list[Difference]:
    """Every path at which the two differ, in the order of the names; lists are compared as wholes."""
    if isinstance(before, Mapping | None) and isinstance(after, Mapping | None) and (before or after):
        old, new = before or {}, after or {}
        return [
            difference
            for name in sorted({*old, *new})
            for difference in differences(old.get(name), new.get(name), f"{path}.{name}" if path else name)
        ]
    nothing = not path and not before and not after
    return [] if nothing or before == after else [Difference(path, before, after)]


def depth(value: Any, limit: int = DEEPEST) -> int:
    """How deep objects and arrays nest, counted up to `limit` + 1."""
    if limit < 0 or not isinstance(value, Mapping | list):
        return 0
    parts = value.values() if isinstance(value, Mapping) else value
    return 1 + max((depth(part, limit - 1) for part in parts), default=0)


def has_nul(value: Any) -> bool:
    """Whether a text in the value holds U+0000, which PostgreSQL cannot store."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, Mapping):
        return any(has_nul(each) for pair in value.items() for each in pair)
    return isinstance(value, list) and any(has_nul(each) for each in value)


def as_json(difference: Difference) -> dict[str, Any]:
    """A difference as the doors show it."""
    return {"path": difference.path, "before": difference.before, "after": difference.after}
