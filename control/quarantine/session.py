"""The receiver's one connection to PostgreSQL: a transaction at a time, and what its errors mean.

The only file of the intake that knows asyncpg. Either the data are at fault (`Unfit`: trying again gives the same), or
the database cannot take anything now (`NotNow`: away, frozen, read-only, full, not migrated).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from control.quarantine import rows
from syncd.spool.stream import NotNow

CONNECT_WITHIN_S = 5.0
STATEMENT_WITHIN_S = 10.0
TRANSACTION_WITHIN_S = 30.0
"""A batch, its packs included; then the connection is given up, and the batch tried again."""

_STAGING = f"""
create temp table in_quarantine on commit delete rows as
    select {", ".join(rows.QUARANTINE[:-1])}, ''::text as words from quarantine with no data;
create temp table in_messages on commit delete rows as select {", ".join(rows.MESSAGES)} from messages with no data;
create temp table in_later on commit delete rows as select {", ".join(rows.LATER)} from later with no data;
"""
"""Of the columns that we write and no others: those that a later schema adds keep their defaults."""

_OF_THE_DATA = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
)
"""The last five come from making and encoding rows; a record that does that has to be set aside, not to block."""

_OF_THE_SCHEMA = (asyncpg.NotNullViolationError,)
"""No row of ours has a null in it: such a column is one that this release does not know. That is no record's fault, and
must set none aside; another release of the receiver will store them."""

_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


class Unfit(Exception):
    """Something in the data cannot be stored; nothing of the transaction was."""


class Session:
    """Connects when it is needed, and anew after any trouble. Callers wait for each other."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._connection: Any = None
        self._lock = asyncio.Lock()
        self.trouble = "PostgreSQL was not asked yet"
        """Why the last transaction failed; "" when it did not."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A connection in a transaction that is committed when the block ends. Raises Unfit, NotNow."""
        async with self._lock:
            try:
                async with asyncio.timeout(TRANSACTION_WITHIN_S):
                    connection = await self._connected()
                    async with connection.transaction():
                        yield connection
                self.trouble = ""
            except _OF_THE_SCHEMA as error:
                raise self._away(error) from error
            except _OF_THE_DATA as error:
                self._check_usable()
                raise Unfit(f"{type(error).__name__}: {error}") from error
            except _AWAY as error:
                raise self._away(error) from error
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Give the connection up; the next transaction makes another."""
        connection, self._connection = self._connection, None
        if connection:
            connection.terminate()

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            try:
                self._connection = await asyncpg.connect(
                    self._database,
                    timeout=CONNECT_WITHIN_S,
                    command_timeout=STATEMENT_WITHIN_S,
                    server_settings={"application_name": "mxfleet receiver", "timezone": "UTC"},
                )
                await self._connection.execute(_STAGING)
            except (ValueError, *_AWAY) as error:  # a ValueError is about the address of the database
                raise self._away(error) from error
        return self._connection

    def _away(self, error: BaseException) -> NotNow:
        self.close()
        self.trouble = f"PostgreSQL: {str(error) or type(error).__name__}"
        return NotNow(self.trouble)

    def _check_usable(self) -> None:
        """An error while rows are copied may leave a connection that speaks of nothing else."""
        if self._connection and (self._connection.is_closed() or self._connection.is_in_transaction()):
            self.close()


async def copy(connection: Any, table: str, columns: tuple[str, ...], found: list[rows.Row]) -> None:
    """Put rows into one of the session's staging tables, which are empty again after the transaction."""
    if found:
        await connection.copy_records_to_table(f"in_{table}", records=found, columns=columns)
