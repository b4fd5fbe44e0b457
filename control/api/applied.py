"""What every change is answered with: its revision, and where each member node stands with it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from control.api.operation import Answer, Asked
from control.receipts import At
from control.store import history
from control.store.layers import Layer, Written

LONGEST_WAIT_S = 60.0


class Wait(msgspec.Struct, frozen=True):
    """Whether to wait until every member has the change."""

    wait: Annotated[
        Literal["", "applied"], Meta(description="“applied”: answer when every member node has it, or the time is up.")
    ] = ""
    timeout: Annotated[float, Meta(ge=0, le=LONGEST_WAIT_S, description="Seconds to wait at most.")] = 10.0


class NodeState(msgspec.Struct, frozen=True):
    """One member node and the change.

    `hash` is that of the layer at the node's `revision`, null when the node never reported or its content does not
    agree with what was published; `ms` is from commit to the node's report, null when that is not known; `age_s` is
    the age of its last report, null when it never reported.
    """

    applied: bool
    state: str
    revision: int | None
    hash: str | None
    ms: float | None
    age_s: float | None


class Applied(msgspec.Struct, frozen=True):
    """A revision, the content hash of the layer it made (the same at every node), and the members."""

    revision: int
    hash: str
    applied: bool
    nodes: dict[str, NodeState]


CHANGED = {200: Applied, 202: Applied}
"""The answers to a change: every member has it, or some are awaited."""


async def answer(asked: Asked, layer: Layer, written: Written, *, status: int | None = None, **more: Any) -> Answer:
    """The answer to a change, after the wait that the query asks for.

    200 when every member has it, 202 when some are awaited, or `status` when given; `more` are further fields.
    """
    receipts = asked.services.receipts
    if written.changed:
        receipts.committed(written, written.asked_at)
    applied = receipts.applied(written)
    if not applied and asked.query.wait:
        applied = await receipts.wait_applied(written, asked.query.timeout)
    body = {
        "revision": written.revision,
        "hash": written.hash,
        "applied": applied,
        "nodes": await nodes(asked.pool, layer, written, receipts.nodes(written)),
        **more,
    }
    headers = {"ETag": f'"{written.hash}"'} if written.hash else {}
    return Answer(body, status or (200 if applied else 202), headers)


async def nodes(pool: Any, layer: Layer, written: Written, at: Mapping[str, At]) -> dict[str, NodeState]:
    """Each member's state, with the hash that the layer has at the revision that the member reports."""
    elsewhere = {each.revision for each in at.values() if each.revision not in (None, written.revision)}
    hashes = {written.revision: written.hash}
    if elsewhere:
        hashes |= await history.hash_at(pool, layer, [each for each in elsewhere if each is not None])
    return {name: _state(each, hashes) for name, each in at.items()}


def _state(at: At, hashes: Mapping[int, str]) -> NodeState:
    known = hashes.get(at.revision) if at.agrees and at.revision is not None else None
    ms = None if at.ms is None else round(at.ms, 1)
    age_s = None if at.age_s is None else round(at.age_s, 2)
    return NodeState(at.applied, at.state, at.revision, known, ms, age_s)
