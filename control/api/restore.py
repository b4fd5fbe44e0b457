"""`/restore`: what the operator says after PostgreSQL was restored from a backup."""

import msgspec

from control.api.applied import Wait
from control.api.operation import Answer, Asked, operation
from control.store import restore


class Restored(msgspec.Struct, frozen=True):
    """The new generation, the revision that it begins with, and the nodes that do not have it yet."""

    generation: int
    revision: int
    applied: bool
    awaited: list[str]


@operation(
    "POST",
    "/restore",
    summary="Publish a restored database",
    answers={200: Restored, 202: Restored},
    query=Wait,
    audience="operator",
    name="restore_settings",
)
async def publish_restored(asked: Asked) -> Answer:
    """After PostgreSQL was restored its publisher stops, because nodes have settings that it does not know. This says
    that the restored ones are meant: changes made since the backup are lost on every node. Of no use, and harmless,
    when nothing was restored."""
    receipts = asked.services.receipts
    written = await restore.raise_generation(asked.pool, asked.viewer, receipts.generation)
    if asked.query.wait:
        await receipts.wait_applied(written, asked.query.timeout)
    awaited = [name for name, at in receipts.nodes(written).items() if not at.applied]
    applied = receipts.applied(written)
    return Answer(Restored(written.generation, written.revision, applied, awaited), 200 if applied else 202)
