"""Settings documents: read, patched, rolled back. The one way by which settings are written, whichever door asks.

A document is section → field → value, only what its own layer sets; beside the sections it may hold `locks`, the
paths that weaker layers cannot change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from control.auth import Viewer
from control.store import history, layers
from control.store.documents import DEEPEST, depth, differences, has_nul, merge, pruned
from control.store.errors import Invalid, Newer, Outdated
from control.store.layers import Change, Layer, Scope, Settings, Written
from mx.filters import BY_NAME, SettingsError, decode
from syncd.layers import locked, origin, resolve

LOCKS = "locks"
LARGEST_BYTES = 512 * 1024
"""Of a document as JSON: it travels as one value, and etcd takes 1.5 MiB a request. Long lists have shards."""


@dataclass(frozen=True, slots=True)
class Stand:
    """A layer's settings as they stand, and what they inherit: `above` is (scope, settings, locks), weakest first."""

    layer: Layer
    above: Sequence[tuple[str, Settings, Sequence[str]]]

    @property
    def document(self) -> dict[str, Any]:
        """What this layer itself sets."""
        return document_of(self.layer)

    @property
    def resolved(self) -> dict[str, dict[str, Any]]:
        """What is in force at this layer, declared defaults left out."""
        return resolve([(settings, locks) for _, settings, locks in self._all()])

    def origin(self, section: str, field: str) -> str:
        """The layer that decides a field: "system", "account", "domain", or "default"."""
        return origin(self._all(), section, field)

    def locked_by(self, section: str, field: str) -> str:
        """The layer above that locks a field; "" when it is free."""
        return next((scope for scope, _, locks in self.above if locked(locks, section, field)), "")

    def _all(self) -> list[tuple[str, Settings, Sequence[str]]]:
        return [*self.above, (self.layer.scope, self.layer.settings, self.layer.locks)]


def document_of(layer: Layer) -> dict[str, Any]:
    """A layer's own settings and locks as one document."""
    locks = {LOCKS: list(layer.locks)} if layer.locks else {}
    return {**{section: dict(fields) for section, fields in layer.settings.items()}, **locks}


async def read(pool: Any, viewer: Viewer, scope: Scope, name: str) -> Stand:
    """A layer's settings. Raises Missing."""
    async with pool.acquire() as connection:
        layer = await layers.load(connection, viewer, scope, name)
        return Stand(layer, await layers.above(connection, layer))


async def patch(
    pool: Any, viewer: Viewer, scope: Scope, name: str, changes: Mapping[str, Any], *, base: str | None = None
) -> Written:
    """Merge a patch (RFC 7396) into a layer's document.

    `base` is the revision (digits) or content hash that the patch was made on; when the settings differ since, nothing
    is stored and Outdated tells what was saved. Without it the patch goes into whatever is there. Raises Missing,
    Invalid with the field and the reason.
    """

    async def edit(connection: Any, layer: Layer) -> Change | None:
        await _refuse_outdated(connection, layer, base)
        return patched(layer, await layers.above(connection, layer), changes)

    return await layers.change(pool, viewer, scope, name, edit)


async def rollback(pool: Any, viewer: Viewer, scope: Scope, name: str, revision: int) -> Written:
    """Make the settings what they were at `revision`, as a new revision. Raises Missing, Invalid.

    Lists, recipients and next hops stay as they are.
    """

    async def edit(connection: Any, layer: Layer) -> Change | None:
        document = await history.document_at(connection, layer, revision)
        if document is None:
            raise Invalid("revision", f"{revision} is no revision of these settings; see their history")
        return _changed(layer, await layers.above(connection, layer), document, "rollback")

    return await layers.change(pool, viewer, scope, name, edit)


def patched(
    layer: Layer, above: Sequence[tuple[str, Settings, Sequence[str]]], changes: Mapping[str, Any]
) -> Change | None:
    """The change that a merge patch makes of a layer; None for none. Raises Invalid."""
    return _changed(layer, above, merge(document_of(layer), changes), "settings")


def check(layer: Layer, above: Sequence[tuple[str, Settings, Sequence[str]]], document: Mapping[str, Any]) -> Layer:
    """The layer with this document. Raises Invalid when no node could judge by it, or when a layer above locks it."""
    document = dict(document)
    locks = _locks(document.pop(LOCKS, []))
    _refuse_unreadable(document)
    after = replace(layer, settings=pruned(document), locks=locks)
    _refuse_locked(Stand(layer, above), after)
    _decode(Stand(after, above).resolved)
    return after


def _changed(
    layer: Layer, above: Sequence[tuple[str, Settings, Sequence[str]]], document: Mapping[str, Any], act: str
) -> Change | None:
    after = check(layer, above, document)
    if after == layer:
        return None
    return Change(after, act, document_of(layer), document_of(after))


async def _refuse_outdated(connection: Any, layer: Layer, base: str | None) -> None:
    """Raise Outdated when the document is another than the one at `base`.

    A newer revision that left the settings alone (a list entry, a next hop) is no conflict.
    """
    if base is None or base in (layer.hash, str(layer.revision)):
        return
    at = int(base) if base.isdigit() and len(base) < 19 else await history.revision_of_hash(connection, layer, base)
    known = None if at is None else await history.document_at(connection, layer, at)
    present = document_of(layer)
    if known == present:
        return
    revision, author = await history.last_author(connection, layer)
    diff = [] if known is None else differences(known, present)
    raise Outdated(Newer(revision, layer.hash, author, diff, present))


def _refuse_unreadable(document: Mapping[str, Any]) -> None:
    if depth(document) > DEEPEST:
        raise Invalid("settings", f"nests deeper than {DEEPEST}")
    if has_nul(document):
        raise Invalid("settings", "holds a NUL character (U+0000), which no setting can")
    if len(layers.json_text(document)) > LARGEST_BYTES:
        raise Invalid(
            "settings", f"larger than {LARGEST_BYTES // 1024} KiB; put long lists of senders into allow and deny"
        )
    _decode(document)


def _decode(document: Mapping[str, Any]) -> None:
    try:
        decode(document)
    except SettingsError as error:
        raise Invalid(error.field, str(error).removeprefix(f"{error.field}: ")) from error


def _refuse_locked(stand: Stand, after: Layer) -> None:
    for section, fields in after.settings.items():
        for name, value in fields.items():
            before = stand.layer.settings.get(section, {})
            if (name not in before or before[name] != value) and (scope := stand.locked_by(section, name)):
                raise Invalid(f"{section}.{name}", f"locked by the {scope}'s settings")


def _locks(value: Any) -> tuple[str, ...]:
    """The locks of a document. Raises Invalid for what is no list of "section" or "section.field"."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Invalid(LOCKS, "must be a list of texts, each a section or “section.field”")
    for path in value:
        section, dot, name = path.partition(".")
        if section not in BY_NAME or (dot and name not in BY_NAME[section].settings.__struct_fields__):
            raise Invalid(LOCKS, f"there is no setting “{path[:80]}”")
    return tuple(dict.fromkeys(value))
