"""What a follower does with what it finds in etcd, and a publisher with what it finds there. Pure; no clock, no I/O.

A follower never takes anything away because a source is empty, half filled, or behind what it has: it keeps what it
has until the source has reached its own revision, and then compares everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from syncd import keys
from syncd.kv import Item
from syncd.published import Meta, Point, read_meta
from syncd.status import Status

Cause = Literal["first", "cluster", "back", "compacted", "digest", "unreadable", "ahead"]
"""Why everything is loaded: nothing here yet; another etcd; etcd's own revision went back; the wanted one is no longer
kept; content and published digest differ; values that could not be read are tried again; etcd had gone on without
us seeing how."""


@dataclass(frozen=True, slots=True)
class Source:
    """etcd as it was found: META (None: there is none), its own revision, its cluster."""

    meta: Meta | None
    revision: int
    cluster: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Watch from this revision of etcd."""

    since: int


@dataclass(frozen=True, slots=True)
class Load:
    """List everything, take what differs, delete what is gone."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class Keep:
    """Go on with what is here; look again when something changes."""

    why: str


def begin(have: Status, source: Source, doubt: Cause | None = None) -> Resume | Load | Keep:
    """What to do on boot, after a break, and in doubt about what is here."""
    if source.meta is None:
        return Keep("etcd is empty")
    if not source.meta.is_whole:
        return Keep("etcd is being filled")
    if have.complete and source.meta.point < have.point:
        return Keep(f"etcd is at {source.meta.point}, behind our {have.point}")
    if cause := doubt or _cause(have, source):
        return Load(cause)
    return Resume(have.etcd_revision + 1)


def _cause(have: Status, source: Source) -> Cause | None:
    if not have.complete:
        return "first"
    if source.cluster != have.cluster:
        return "cluster"
    if source.revision < have.etcd_revision:
        return "back"
    if not have.agrees:
        return "digest"
    return "unreadable" if have.unreadable else None


@dataclass(frozen=True, slots=True)
class Apply:
    """Changes to take in at once, all from whole revisions; `ignored` counts keys that no publisher vouched for."""

    meta: Meta | None
    changes: dict[str, bytes | None]
    etcd_revision: int
    ignored: int


@dataclass(frozen=True, slots=True)
class Look:
    """These changes are not to be followed: look at the source anew."""


@dataclass(slots=True)
class _Revision:
    number: int
    changes: dict[str, bytes | None] = field(default_factory=dict)


def take(have: Status, items: Sequence[Item]) -> Apply | Look:
    """What to do with changes that a watch brought, in order, whole revisions.

    Every publisher's transaction writes META too. A revision without it was written by somebody else and is ignored;
    the publisher's compare undoes it. One that takes META away, or back, is not followed. Raises Unreadable.
    """
    point, meta, ignored = have.point, None, 0
    changes: dict[str, bytes | None] = {}
    for each in _revisions(items):
        if keys.META not in each.changes:
            ignored += len(each.changes)
            continue
        value = each.changes.pop(keys.META)
        if value is None:
            return Look()
        meta = read_meta(value)
        if not meta.is_whole or meta.point < point:
            return Look()
        point = meta.point
        changes |= each.changes
    return Apply(meta, changes, items[-1].revision, ignored)


def _revisions(items: Sequence[Item]) -> list[_Revision]:
    found: list[_Revision] = []
    for item in items:
        if not found or found[-1].number != item.revision:
            found.append(_Revision(item.revision))
        found[-1].changes[item.key] = item.value
    return found


class Step(Enum):
    """What a publisher does next."""

    DRAIN = "put the outbox's next changes into etcd"
    REPUBLISH = "compare everything, and put in what differs"
    STOP = "touch nothing: PostgreSQL is not the one that was published"


def publish(meta: Meta | None, counter: Point, *, gapless: bool, stamp: int = 0) -> Step:
    """What a publisher does that finds `meta` in etcd and `counter` in PostgreSQL.

    `gapless`: the outbox still has every revision behind META's; `stamp`: when it committed META's revision, 0 when it
    does not have that any more. STOP is for a database that was restored, or is the wrong one, whether or not it has
    counted on since: publishing it would take customers' settings back, or away; raising the generation says that this
    is meant.
    """
    if meta is None:
        return Step.REPUBLISH
    is_other = meta.generation == counter[0] and meta.stamp and stamp and meta.stamp != stamp
    if meta.point > counter or is_other:
        return Step.STOP
    return Step.DRAIN if gapless and meta.is_whole and meta.generation == counter[0] else Step.REPUBLISH
