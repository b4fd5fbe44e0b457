"""Connections to PostgreSQL: one pool a process, made without needing the server to be there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from monitoring import log

CONNECT_WITHIN_S = 5.0
"""A server that accepts and says nothing is away."""
ANSWER_WITHIN_S = 30.0
"""For one statement; waiting for another's lock is part of it."""
SIZE = 10
LOOK_AGAIN_S = 1.0
AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)
"""What asyncpg raises while PostgreSQL is away, starting, stopping, or cannot take anything."""
LOG = log.get(__name__)
T = TypeVar("T")


async def insist(write: Callable[[], Awaitable[T]]) -> T:
    """Do what must be done as soon as PostgreSQL is there; waits for it without end, so the caller owns the time."""
    while True:
        try:
            return await write()
        except AWAY as error:
            LOG.warning("database away, waiting", error=repr(error))
            await asyncio.sleep(LOOK_AGAIN_S)


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
