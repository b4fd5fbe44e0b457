"""What tests of filters have in common: a verdict from plain settings, what a session has seen, and lists in memory."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mx.checks import mime
from mx.filter import Action, Filter, Message, Seen, Tools, Verdict
from mx.filters import SettingsError, decode
from syncd.layers import Entry
from tests.mx.checks.zone import Records, Zone

NOW = 1_764_000_000.0


class Case(NamedTuple):
    """One line of a verdict table: facts and settings in, action and a piece of the reason out; `code` for refusals."""

    name: str
    facts: Any
    settings: Mapping[str, Any]
    action: Action
    says: str = ""
    code: str = ""


def settings_of(filter_: Filter, settings: Mapping[str, Any]) -> Any:
    """Typed settings, decoded as a node decodes them."""
    return decode({filter_.name: settings})[filter_.name]


def hold_to(filter_: Filter, case: Case) -> Verdict:
    """Judge one case and compare; every refusal has to be in the filter's manual, and every verdict has its reason."""
    verdict = filter_.judge(case.facts, settings_of(filter_, case.settings))
    assert verdict.action is case.action, verdict
    assert case.says in verdict.reason
    assert bool(verdict.reason) is (verdict.action is not Action.PASS)
    if verdict.action is Action.REFUSE:
        spoken = f"{verdict.code} {verdict.enhanced}"
        assert spoken == (case.code or "550 5.7.1")
        assert f"`{spoken} " in (sys.modules[filter_.judge.__module__].__doc__ or ""), "the manual has to name it"
        assert verdict.text.isascii()
    return verdict


def complaint(filter_: Filter, settings: Mapping[str, Any]) -> tuple[str, str]:
    """Field and reason of the error that these settings are refused with; ("", "") when they are taken."""
    try:
        settings_of(filter_, settings)
    except SettingsError as error:
        return error.field, error.reason
    return "", ""


def seen(raw: bytes = b"", **changed: Any) -> Seen:
    """A session at its end, with a mail parsed by the real parser when there is one."""
    known: dict[str, Any] = {
        "id": "01J",
        "node": "mx1",
        "client_ip": "192.0.2.7",
        "client_port": 4711,
        "hostname": "mx1.mxfleet.test",
        "helo": "mail.sender.test",
        "sender": "ann@sender.test",
        "recipient": "bob@example.test",
        "domain": "example.test",
        "message": mime.parse(raw) if raw else None,
        "raw": raw,
    }
    return Seen(**{**known, **changed})


@dataclass
class Lists:
    """Simulated lists: entries by layer and key, exactly as nodes look them up; a layer in `absent` has no shard."""

    entries: Mapping[tuple[str, str], Entry] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    asked: int = 0

    def entry(self, layer: str, key: str) -> Entry | None:
        """As `mx.policy.PolicyLists.entry`."""
        self.asked += 1
        if layer in self.absent:
            raise KeyError("shard abc is not here")
        return self.entries.get((layer, key))

    def is_empty(self, layer: str) -> bool:
        """As `mx.policy.PolicyLists.is_empty`; a layer whose shard is not here is not empty."""
        return layer not in self.absent and not any(one == layer for one, _ in self.entries)

    def listed(self, local_part: str) -> bool | None:
        """Anybody exists."""
        return None


def tools(records: Records | None = None, lists: Lists | None = None, facts: Mapping[str, Any] | None = None) -> Tools:
    """A look's tools over simulated DNS, lists and other filters' facts."""

    async def facts_of(name: str) -> Any:
        return (facts or {}).get(name)

    return Tools(Zone(records or {}), lists or Lists(), NOW, facts_of)


def message(**changed: Any) -> Message:
    """A message as the parser makes it."""
    return Message(**{"headers": (), "parts": (), "size_bytes": 100, **changed})
