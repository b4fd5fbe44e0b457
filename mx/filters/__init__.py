"""The filters in the order they are judged, and what is derived from that one declaration.

The order list is the only place that knows all filters; the pipeline, the panel's forms, the API,
the docs and the metrics read it from here.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from mx.filter import Filter, Section
from mx.filters.sections import SECTIONS

ORDER: tuple[Filter, ...] = ()

DECLARED: tuple[Section, ...] = (*ORDER, *SECTIONS)
BY_NAME: Mapping[str, Section] = {declared.name: declared for declared in DECLARED}


class SettingsError(ValueError):
    """Settings that no node could judge by. `field` is "section.field" or "section"; the text says what is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason = field, reason


def decode(document: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Typed settings of every declared section, defaults filled in. Raises SettingsError."""
    for name in document:
        if name not in BY_NAME:
            raise SettingsError(name, f"there is no such section; known: {', '.join(sorted(BY_NAME))}")
    return {name: _section(declared, document.get(name, {})) for name, declared in BY_NAME.items()}


def _section(declared: Section, fields: Mapping[str, Any]) -> Any:
    if not isinstance(fields, Mapping):
        raise SettingsError(declared.name, "must be an object of fields")
    try:
        return msgspec.convert(dict(fields), declared.settings)
    except msgspec.ValidationError as error:
        where, reason = _place(declared.name, str(error))
        raise SettingsError(where, reason) from error


def _place(section: str, text: str) -> tuple[str, str]:
    """Split msgspec's "reason - at `$.field[0]`" into our field name and the reason."""
    reason, _, path = text.partition(" - at `$")
    return section + path.rstrip("`"), reason
