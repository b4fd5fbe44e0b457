"""What has to hold whatever happens: promises 3 and 4 of the design, and that everybody comes to the same end."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from control.receipts import Receipts
from syncd import keys
from syncd.published import Point, sealed, shards_named
from tests.syncd.model.postgres import SimulatedPostgres
from tests.syncd.model.store import Store


@dataclass(frozen=True)
class Target:
    """A committed change, as `control.store.layers.Written` has it, and its value."""

    generation: int
    revision: int
    key: str
    members: tuple[str, ...]
    stamp: int
    value: bytes | None


@dataclass
class Node:
    """A node's store, and how far it was ever seen to be."""

    name: str
    store: Store
    point: Point = (0, 0)
    stamp: int = 0
    """Of the latest commit whose whole content it was seen to have."""
    seen: tuple[object, ...] = field(default=())


def check_node(node: Node, postgres: SimulatedPostgres) -> None:
    """A node never goes back and serves nothing that was not committed; and one that says its content is what was
    published, by which alone it may say that something does not exist, has exactly what was committed at the revision
    it names."""
    status = node.store.status
    assert status.point >= node.point, f"{node.name} went back from {node.point} to {status.point}"
    node.point = status.point
    seen = (status.point, status.digest, status.published)
    if seen == node.seen:
        return
    node.seen = seen
    held = {key: value for key, value in node.store.values.items() if not key.startswith(keys.SHARDS)}
    strange = {key for key, value in held.items() if (key, value) not in postgres.ever}
    assert not strange, f"{node.name} serves of {strange} what was never committed"
    if not status.agrees:
        return
    stamps = [
        stamp
        for stamp, content in postgres.truth.get(status.point, ())
        if _but(content, status.unreadable) == _but(held, status.unreadable)
    ]
    assert stamps, f"{node.name} at {status.point} agrees, and has what was never committed"
    node.stamp = max(node.stamp, *stamps)
    _check_shards(node, held)


def _but(content: Mapping[str, bytes], unreadable: Iterable[str]) -> dict[str, bytes]:
    return {key: value for key, value in content.items() if key not in unreadable}


def _check_shards(node: Node, held: Mapping[str, bytes]) -> None:
    """A key that is served has its shards."""
    for key, value in held.items():
        if key.startswith(keys.DOMAINS):
            for name in shards_named(value[32:]):
                assert keys.shard(name) in node.store.values, f"{node.name} serves {key} without its shard"


def check_applied(target: Target, nodes: Mapping[str, Node]) -> None:
    """What is called applied is at every member, whole: never a false "applied"."""
    for name in target.members:
        node = nodes[name]
        assert node.stamp >= target.stamp, f"{target} was called applied, {name} only had {node.point}, {node.stamp}"


def check_healed(
    nodes: Mapping[str, Node], postgres: SimulatedPostgres, panel: Receipts, last: Target, members: Iterable[str]
) -> None:
    """Everybody has everything, says so, and is believed."""
    point, content = (postgres.data.generation, postgres.data.revision), postgres.content()
    for node in nodes.values():
        status = node.store.status
        assert (status.point, status.state, status.agrees) == (point, "live", True), f"{node.name}: {status}"
        for key, value in content.items():
            if key not in status.unreadable:
                assert node.store.values.get(key) == sealed(value), f"{node.name} lacks {key}"
        surplus = {key for key in node.store.values if not key.startswith(keys.SHARDS)} - set(content)
        assert not surplus, f"{node.name} still serves {surplus}"
    assert panel.applied(last) or not list(members), f"{last} is nowhere called applied: {panel.nodes(last)}"
