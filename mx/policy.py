"""Where a worker finds a domain's settings: layer hashes from last-known-good, then memory → memcached → resolve.

The hashes of a domain's layers come from the mapped store at every look (some 4 µs), never from memcached; together
they name the resolved snapshot, so that whatever a cache holds under that name is what is in force. Caches can be
missing, slow or wrong, and cost time only. A miss is never a no: what cannot be known raises `NotKnown` (promise 3).
"""

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from monitoring import log
from monitoring.metrics import mx as metrics
from mx.filters import SettingsError, decode
from syncd import config, keys, shards, snapshot
from syncd.lastgood import DIRECTORY, NotHere, Reader, View
from syncd.layers import Entry, NextHop, Recipient, Shards, digest, resolve
from syncd.memcache import Answer, Memcache
from syncd.published import Unreadable
from syncd.snapshot import Place, Snapshot
from syncd.status import Status

REMEMBERED = 1000
"""Decoded policies in memory, some 8 KB each."""
UNKNOWN_S = 15 * 60
"""How long an unknown recipient is remembered."""

NONE_UNKNOWN_S = 2.0
"""How long a domain without remembered unknown recipients is not asked about again: a look into memcached takes as
long as the rest of a recipient's judgement, and a recipient that another worker has just learned of costs a relay."""
ASKED = 10_000
"""Such domains in memory."""

_log = log.get(__name__)
_ENTRY_LAYERS = ("system", "account", "domain")


class NotKnown(Exception):
    """Nobody here can say now; the sender has to come again."""


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no such domain, and this node is sure of it."""


@dataclass(frozen=True, slots=True)
class _Resolved:
    """What stays the same as long as the layers do."""

    snapshot: Snapshot
    sections: Mapping[str, Any]


@dataclass(frozen=True)
class Policy:
    """The settings in force for a domain, or for one of its recipients.

    `hash` names their content, `generation` and `revision` say how far the node was when they were found.
    """

    domain: str
    account: str
    hash: str
    generation: int
    revision: int
    sections: Mapping[str, Any]
    _snapshot: Snapshot
    _reader: Reader

    @property
    def next_hops(self) -> tuple[NextHop, ...]:
        """Servers that take the domain's mail."""
        return self._snapshot.next_hops

    @property
    def locks(self) -> tuple[str, ...]:
        """Paths that no recipient may change."""
        return self._snapshot.locks

    @cached_property
    def lists(self) -> "PolicyLists":
        """Its entries and listed recipients."""
        return PolicyLists(self._snapshot, self._reader)

    def for_recipient(self, local_part: str) -> "Policy":
        """This policy with the recipient's own settings on top. Raises NotKnown, KeyError as `lists` does."""
        found = self.lists.recipient(local_part)
        if not found:
            return self
        own = _decode(found, Recipient)
        if not own.settings:
            return self
        settings = resolve([(self._snapshot.settings, self.locks), (own.settings, ())])
        return replace(self, hash=digest(self.hash.encode() + found), sections=_sections(self.domain, settings))


@dataclass(frozen=True, slots=True)
class PolicyLists:
    """Entries and recipients are looked up in their shards, one key at a time; a list is never decoded whole."""

    _snapshot: Snapshot
    _reader: Reader
    _recipients: dict[str, bytes | None] = field(default_factory=dict)

    def entry(self, layer: Literal["system", "account", "domain"], key: str) -> Entry | None:
        """The unexpired entry with exactly this key. Raises KeyError when its shard is not here, NotKnown."""
        found = self._find(self._snapshot.entries[_ENTRY_LAYERS.index(layer)], key)
        if found is None:
            return None
        entry = _decode(found, Entry)
        return entry if entry.expires is None or entry.expires > time.time() else None

    def is_empty(self, layer: Literal["system", "account", "domain"]) -> bool:
        """Whether the layer has no entries at all."""
        return not self._snapshot.entries[_ENTRY_LAYERS.index(layer)].hashes

    def listed(self, local_part: str) -> bool | None:
        """Whether the recipient exists; None when the domain takes any. Raises KeyError, NotKnown."""
        return None if self._snapshot.recipients is None else self.recipient(local_part) is not None

    def recipient(self, local_part: str) -> bytes | None:
        """What the list says of a recipient. Raises KeyError, NotKnown."""
        recipients = self._snapshot.recipients
        if recipients is None:
            return None
        name = local_part.lower()
        if name not in self._recipients:  # asked for at RCPT, by its filter, and for the recipient's own settings
            self._recipients[name] = self._find(recipients, name)
        return self._recipients[name]

    def _find(self, listed: Shards, key: str) -> bytes | None:
        if not listed.hashes:
            return None
        try:
            with self._reader.reading() as view:
                return shards.find(listed, key, lambda name: _shard(view, name))
        except NotHere as error:
            raise NotKnown(str(error)) from error


class Policies:
    """Finds policies for one worker. Synchronous; a look takes some 10 µs, the first one of a domain 0.2 ms, and once
    a second 50 ms at most while memcached hangs."""

    def __init__(self, node: config.Node) -> None:
        self._reader = Reader(Path(node.state_dir) / DIRECTORY)
        self._memcache = Memcache(node.memcached_socket)
        self._accounts = snapshot.Accounts()
        self._resolved: OrderedDict[str, _Resolved] = OrderedDict()
        self._none_unknown: dict[str, float] = {}
        """Domains without remembered unknown recipients, and until when that is believed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of store and memcached."""
        self._reader.close()
        self._memcache.close()

    @property
    def in_rotation(self) -> bool:
        """Whether this node takes new sessions; where nobody has said otherwise, it does."""
        try:
            with self._reader.reading() as view:
                return view.status().in_rotation
        except NotHere:
            return True

    def find(self, domain: str) -> Policy | Absent:
        """The policy of a domain (lower-case A-label form), or `Absent` when this node is sure that there is none.

        Raises NotKnown while it cannot be sure: unsynced, incomplete, stale, unreadable.
        """
        try:
            with self._reader.reading() as view:
                return self._find(view, domain)
        except NotHere as error:
            raise NotKnown(str(error)) from error
        except Unreadable as error:
            metrics.cache_requests.labels("lastgood", "error").inc()
            raise NotKnown(f"settings of {domain} cannot be read: {error}") from error

    def remember_unknown(self, domain: str, local_part: str) -> None:
        """Remember for the whole node that the next hop does not know a recipient."""
        for name in (self._unknown(domain, local_part), self._unknown(domain)):
            if name:
                self._memcache.set(name, domain, b"1", ttl_s=UNKNOWN_S)
        self._none_unknown.pop(domain, None)

    def is_remembered_unknown(self, domain: str, local_part: str) -> bool:
        """Whether the next hop did not know it within `UNKNOWN_S`, and the domain was not changed since."""
        now = time.monotonic()
        if self._none_unknown.get(domain, 0.0) > now:
            return False
        names = (self._unknown(domain), self._unknown(domain, local_part))
        if not all(names):
            return False
        if self._memcache.get(names[0], domain)[0] is not Answer.HIT:
            if len(self._none_unknown) >= ASKED:
                self._none_unknown.clear()
            self._none_unknown[domain] = now + NONE_UNKNOWN_S
            return False
        return self._memcache.get(names[1], domain)[0] is Answer.HIT

    def _find(self, view: View, domain: str) -> Policy | Absent:
        status = view.status()
        metrics.settings_revision.set(status.revision)
        metrics.settings_age_seconds.set(status.age_s())
        if not status.complete:
            raise NotKnown(f"this node has no whole settings yet ({status.state})")
        place = snapshot.place(view, domain, self._accounts)
        if place is None:
            return _absent(status)
        known = self._known(view, place)
        return Policy(
            domain=domain,
            account=place.account,
            hash=place.name,
            generation=status.generation,
            revision=status.revision,
            sections=known.sections,
            _snapshot=known.snapshot,
            _reader=self._reader,
        )

    def _known(self, view: View, place: Place) -> _Resolved:
        known = self._resolved.get(place.name)
        metrics.cache_requests.labels("memory", "miss" if known is None else "hit").inc()
        if known is None:
            found = self._from_memcached(place) or self._from_lastgood(view, place)
            known = _Resolved(found, _sections(place.domain, found.settings))
            self._resolved[place.name] = known
            if len(self._resolved) > REMEMBERED:
                self._resolved.popitem(last=False)
        self._resolved.move_to_end(place.name)
        return known

    def _from_memcached(self, place: Place) -> Snapshot | None:
        answer, value = self._memcache.get(place.name, place.domain)
        metrics.cache_requests.labels("memcached", answer).inc()
        if answer is not Answer.HIT:
            return None
        try:
            return snapshot.decode(value)
        except Unreadable as error:
            _log.warning("snapshot_unreadable", domain=place.domain, error=str(error))
            return None

    def _from_lastgood(self, view: View, place: Place) -> Snapshot:
        found = snapshot.make(view, place)
        metrics.cache_requests.labels("lastgood", "hit").inc()
        self._memcache.set(place.name, place.domain, snapshot.encode(found))
        return found

    def _unknown(self, domain: str, local_part: str = "") -> str:
        """Name of a remembered recipient, or of there being any; it changes with the domain's layer.

        "" when the domain is not known.
        """
        try:
            with self._reader.reading() as view:
                place = snapshot.place(view, domain, self._accounts)
        except (NotHere, Unreadable):
            return ""
        return "unknown:" + digest(f"{place.domain_hash}\0{local_part.lower()}".encode()) if place else ""


def _absent(status: Status) -> Absent:
    if not status.can_deny:
        raise NotKnown(f"no such domain here, but this node is not sure ({status.state}, {status.age_s():.0f} s)")
    return Absent()


def _shard(view: View, name: str) -> bytes:
    body = view.value(keys.shard(name))
    if body is None:
        raise KeyError(f"shard {name} is not here")
    return body


def _sections(domain: str, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    try:
        return decode(settings)
    except SettingsError as error:
        raise NotKnown(f"settings of {domain} cannot be read: {error}") from error


def _decode(value: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        raise NotKnown(f"a list entry cannot be read: {error}") from error
