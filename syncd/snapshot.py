"""A domain's settings as the layers above it leave them: resolved once per node, shared by its workers.

Named by the hashes of the layers it was resolved from, so that a name can never stand for something old.
"""

from typing import TypeVar

import msgspec

from syncd import keys
from syncd.lastgood import NotHere, View
from syncd.layers import AccountLayer, DomainLayer, NextHop, Shards, SystemLayer, digest, resolve
from syncd.published import HASH_CHARS, Unreadable

L = TypeVar("L", SystemLayer, AccountLayer, DomainLayer)

_ABSENT = "-" * HASH_CHARS
"""In place of the hash of a layer that nobody has set."""


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is in force for a domain, but for what its recipients set for themselves. `entries`: system's, account's,
    domain's. `locks`: every path that no recipient may change."""

    domain: str
    account: str
    settings: dict[str, dict[str, object]]
    locks: tuple[str, ...]
    next_hops: tuple[NextHop, ...]
    entries: tuple[Shards, Shards, Shards]
    recipients: Shards | None = None


class Place(msgspec.Struct, frozen=True):
    """Which layers make a domain's snapshot, by hash; `name` stands for all of them."""

    domain: str
    account: str
    name: str
    domain_hash: str


class Accounts:
    """The account of a domain by the hash of the domain's layer: immutable, so remembered without end but bounded."""

    def __init__(self, most: int = 20_000) -> None:
        self._known: dict[str, str] = {}
        self._most = most

    def of(self, layer_hash: str, value: bytes) -> str:
        """The account of a domain's value. Raises Unreadable."""
        if layer_hash not in self._known:
            if len(self._known) >= self._most:
                self._known.clear()
            self._known[layer_hash] = _decode(value, DomainLayer).account
        return self._known[layer_hash]


def place(view: View, domain: str, accounts: Accounts) -> Place | None:
    """Where a domain's settings come from; None when there is no such domain here. Raises Unreadable."""
    value = _readable(view, keys.domain(domain))
    if value is None:
        return None
    hashes = [_hash(_readable(view, keys.SYSTEM))]
    own = _hash(value)
    account = accounts.of(own, value)
    hashes += [_hash(_readable(view, keys.account(account))), own]
    return Place(domain, account, digest("".join(hashes).encode()), own)


def make(view: View, found: Place) -> Snapshot:
    """Resolve the layers as they are in this view. Raises Unreadable, NotHere."""
    value = view.value(keys.domain(found.domain))
    if value is None:
        raise NotHere(f"{found.domain} went while it was read")
    system = _layer(view, keys.SYSTEM, SystemLayer) or SystemLayer()
    account = _layer(view, keys.account(found.account), AccountLayer) or AccountLayer(found.account)
    domain = _decode(value, DomainLayer)
    layers = (system, account, domain)
    return Snapshot(
        domain=domain.domain,
        account=domain.account,
        settings=resolve([(layer.settings, layer.locks) for layer in layers]),
        locks=tuple(dict.fromkeys(path for layer in layers for path in layer.locks)),
        next_hops=domain.next_hops,
        entries=(system.entries, account.entries, domain.entries),
        recipients=domain.recipients,
    )


def encode(snapshot: Snapshot) -> bytes:
    """As memcached holds it."""
    return msgspec.msgpack.encode(snapshot)


def decode(value: bytes) -> Snapshot:
    """Raises Unreadable."""
    try:
        return msgspec.msgpack.decode(value, type=Snapshot)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"a snapshot: {error}") from error


def _readable(view: View, key: str) -> bytes | None:
    """What is served of a key. Raises Unreadable for one that exists but could never be read here."""
    value = view.value(key)
    if value is None and view.has(key):
        raise Unreadable(f"{key} was never readable here")
    return value


def _layer(view: View, key: str, kind: type[L]) -> L | None:
    value = _readable(view, key)
    return None if value is None else _decode(value, kind)


def _hash(value: bytes | None) -> str:
    return _ABSENT if value is None else value[:HASH_CHARS].decode("ascii", "replace")


def _decode(value: bytes, kind: type[L]) -> L:
    try:
        return msgspec.json.decode(value[HASH_CHARS:], type=kind)
    except msgspec.MsgspecError as error:
        raise Unreadable(str(error)) from error
