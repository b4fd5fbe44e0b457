"""What an operator says after PostgreSQL was restored: what it holds is meant, from here on."""

from typing import Any

from control.auth import Viewer
from control.store import audit, layers
from control.store.accounts import require_operator
from control.store.layers import Written


async def raise_generation(pool: Any, viewer: Viewer, above: int) -> Written:
    """Begin a new generation, above the database's own and above `above`; returns what nodes have to reach.

    The publisher then compares everything and puts in what differs; nodes follow, because the generation is compared
    before the revision. Raises Forbidden.
    """
    require_operator(viewer)
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            "update revision_counter set generation = greatest(generation, $1) + 1 returning generation, revision",
            above,
        )
        await audit.note(connection, viewer, "restored", "settings", **dict(row))
        await connection.execute("select pg_notify($1, $2)", layers.CHANNEL, str(row["revision"]))
        return await layers.at(connection, row["revision"])
