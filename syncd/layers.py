"""The settings of a domain as layers, their canonical bytes, and the one function that resolves them.

Layers, weakest first: declared defaults → system → account → domain → recipient. A document maps
section → field → value and holds only what its layer sets. A layer may *lock* a path
("content" or "content.mode"): layers below it cannot change what it locks. Nodes, panel and API
all resolve with `resolve`, so that none can disagree about what is in force.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

Document = Mapping[str, Mapping[str, Any]]
"""Section → field → value, JSON types only."""

TlsMode = Literal["opportunistic", "required", "verified"]


class NextHop(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One server that takes a domain's mail. Lower `preference` is tried first."""

    host: str
    port: int = 25
    tls: TlsMode = "opportunistic"
    preference: int = 10


class Shards(msgspec.Struct, frozen=True, omit_defaults=True):
    """A long list that lives outside its layer: `hashes[bucket(key) % len(hashes)]` names the shard of a key."""

    hashes: tuple[str, ...] = ()
    count: int = 0


class SystemLayer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the operator sets for everybody."""

    settings: dict[str, dict[str, Any]] = {}
    locks: tuple[str, ...] = ()
    entries: Shards = Shards()


class AccountLayer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a customer sets for all of their domains."""

    account: str
    settings: dict[str, dict[str, Any]] = {}
    locks: tuple[str, ...] = ()
    entries: Shards = Shards()


class DomainLayer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One served domain.

    `recipients` is None when any local part is taken; otherwise only those listed (with the
    recipient layer of each, if it has one) exist.
    """

    domain: str
    account: str
    next_hops: tuple[NextHop, ...]
    settings: dict[str, dict[str, Any]] = {}
    locks: tuple[str, ...] = ()
    entries: Shards = Shards()
    recipients: Shards | None = None


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node that belongs to the fleet, and where its peers find its spool."""

    node: str
    spool_host: str
    spool_port: int
    smtp_host: str
    smtp_port: int
    state: Literal["joined", "draining", "drained"] = "joined"


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One allow or deny entry. `match` is an address, a domain (with its subdomains) or a network."""

    id: str
    kind: Literal["allow", "deny"]
    match: str
    expires: float | None = None
    authenticated_only: bool = False
    note: str = ""


class Recipient(msgspec.Struct, frozen=True, omit_defaults=True):
    """One listed recipient: what it sets for itself."""

    settings: dict[str, dict[str, Any]] = {}


Layer = SystemLayer | AccountLayer | DomainLayer | Member

_encoder = msgspec.json.Encoder(order="sorted")


def canonical(value: msgspec.Struct) -> bytes:
    """The one byte string of a value: JSON with sorted keys, defaults left out."""
    return _encoder.encode(value)


def digest(data: bytes) -> str:
    """Content hash used for layers and shards: blake2b-128 in hex, 32 characters."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def locked(locks: Iterable[str], section: str, field: str) -> bool:
    """Whether a lock covers this field, by its own path or by its section's."""
    held = set(locks)
    return section in held or f"{section}.{field}" in held


def resolve(layers: Sequence[tuple[Document, Sequence[str]]]) -> dict[str, dict[str, Any]]:
    """What is in force: `layers` are (document, locks) pairs, weakest first; a lock stops every later layer."""
    resolved: dict[str, dict[str, Any]] = {}
    held: list[str] = []
    for document, locks in layers:
        for section, fields in document.items():
            for field, value in fields.items():
                if not locked(held, section, field):
                    resolved.setdefault(section, {})[field] = value
        held.extend(locks)
    return resolved


def origin(layers: Sequence[tuple[str, Document, Sequence[str]]], section: str, field: str) -> str:
    """Name of the layer that decides this field, "default" when none sets it; `layers` as (name, document, locks)."""
    decided, held = "default", list[str]()
    for name, document, locks in layers:
        if field in document.get(section, {}) and not locked(held, section, field):
            decided = name
        held.extend(locks)
    return decided
