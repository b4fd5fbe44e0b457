"""Connections to PostgreSQL: one pool a process, made without needing the server to be there."""

from typing import Any

import asyncpg

CONNECT_WITHIN_S = 5.0
"""A server that accepts and says nothing is away."""
ANSWER_WITHIN_S = 30.0
"""For one statement; waiting for another's lock is part of it."""
SIZE = 10


async def create(database: str, *, size: int = SIZE) -> Any:
    """A pool on this DSN. It opens connections as they are needed: what is asked while the server is away fails with
    OSError, TimeoutError or asyncpg's own errors, and works again as soon as it is back."""
    return await asyncpg.create_pool(
        database,
        min_size=0,
        max_size=size,
        timeout=CONNECT_WITHIN_S,
        command_timeout=ANSWER_WITHIN_S,
        server_settings={"application_name": "mxfleet"},
    )
