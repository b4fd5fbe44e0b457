"""A posted settings form as a JSON merge patch: only what differs from what the form showed. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


class FieldError(ValueError):
    """Text of a field that is no value of its kind; `path` is "section.field"."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def to_text(kind: str, value: Any) -> str:
    """A value as its control shows it."""
    if kind == "lines":
        return "\n".join(str(each) for each in value or ())
    if kind == "json":
        return json.dumps(value, ensure_ascii=False, indent=2)
    if kind == "bool":
        return "true" if value else "false"
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def to_value(kind: str, path: str, text: str, *, integer: bool = False) -> Any:
    """A control's text as a value. Raises FieldError."""
    try:
        if kind == "number":
            return int(text) if integer else float(text)
        if kind == "json":
            return json.loads(text or "null")
    except ValueError as error:
        wanted = "a whole number" if integer else "a number" if kind == "number" else "valid JSON"
        raise FieldError(path, f"must be {wanted}") from error
    if kind == "lines":
        return [line.strip() for line in text.splitlines() if line.strip()]
    return text == "true" if kind == "bool" else text


def patch(changes: Mapping[str, Any], resets: Sequence[str]) -> dict[str, Any]:
    """Section → field → value from "section.field" paths; a reset path becomes null, which removes it (RFC 7396)."""
    document: dict[str, Any] = {}
    for path, value in [*changes.items(), *((path, None) for path in resets)]:
        section, _, field = path.partition(".")
        document.setdefault(section, {})[field] = value
    return document
