"""The filters in the order they are judged, and what is derived from that one declaration.

The order list is the only place that knows all filters; the pipeline, the panel's forms, the API,
the docs and the metrics read it from here.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from mx.filter import BadSetting, Filter, Section
from mx.filters import (
    attachments,
    content,
    dnsbl,
    early_talker,
    gtube,
    headers,
    helo,
    loop,
    recipient_list,
    sender_list,
    size,
    spf,
)
from mx.filters.sections import SECTIONS

ORDER: tuple[Filter, ...] = (
    sender_list.FILTER,  # the owner's own word comes first: an entry that is not here yet defers before others refuse
    recipient_list.FILTER,  # spoken at RCPT
    early_talker.FILTER,  # what the session itself shows, at no cost
    helo.FILTER,
    dnsbl.FILTER,  # asks DNS once a zone
    spf.FILTER,  # asks DNS up to ten times
    loop.FILTER,  # from here on the message; first what its bytes alone show
    size.FILTER,
    headers.FILTER,
    gtube.FILTER,
    attachments.FILTER,  # what runs is a better reason to give than what is said
    content.FILTER,  # the dearest
)
"""The first filter that refuses, holds or defers gives the reason; each line says why it stands where it does."""

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
        if isinstance(error.__cause__, BadSetting):
            where = f"{where}.{error.__cause__.field}"
        raise SettingsError(where, reason) from error


def _place(section: str, text: str) -> tuple[str, str]:
    """Split msgspec's "reason - at `$.field[0]`" into our field name and the reason."""
    reason, _, path = text.partition(" - at `$")
    return section + path.rstrip("`"), reason
