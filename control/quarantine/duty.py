"""Which janitor works, and how it hears of work: one at a time, by a lock that ends with its connection."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from control.quarantine.release import CHANNEL
from control.store.pool import ANSWER_WITHIN_S, AWAY, CONNECT_WITHIN_S
from monitoring import log

LOOK_AGAIN_S = 1.0
PROOF_EVERY_S = 2.0
"""A connection that is cut without a word is noticed after this and `PROOF_WITHIN_S`."""
PROOF_WITHIN_S = 5.0
NOT_YET = "PostgreSQL was not asked yet"
ANOTHER = "another janitor works; this one waits for its end"
LOG = log.get(__name__)


class Duty:
    """On duty while our connection holds the lock. `trouble` is "" then, else why not, in words.

    The lock keeps two janitors from competing; it is not what keeps a mail from going twice: that is the row of each
    job, which is looked at again before the mail leaves.
    """

    def __init__(self, database: str, recover: Callable[[], Awaitable[None]]) -> None:
        self._database, self._recover = database, recover
        self.trouble = NOT_YET
        self.begun = asyncio.Event()
        """Set while on duty."""
        self.news = asyncio.Event()
        """Set, and replaced by a new one, whenever there may be work."""

    async def run(self) -> None:
        """Be on duty whenever that is possible, until cancelled."""
        while True:
            try:
                await self._stand()
            except AWAY as error:
                self._say(f"PostgreSQL: {str(error) or type(error).__name__}")
            except asyncpg.PostgresError as error:
                self._say(f"PostgreSQL refuses: {error}")
            finally:
                self.begun.clear()
            await asyncio.sleep(LOOK_AGAIN_S)

    def ring(self, *_: object) -> None:
        """Tell everybody who waits for work to look."""
        rung, self.news = self.news, asyncio.Event()
        rung.set()

    async def _stand(self) -> None:
        connection = await asyncpg.connect(
            self._database,
            timeout=CONNECT_WITHIN_S,
            command_timeout=ANSWER_WITHIN_S,
            server_settings={"application_name": "mxfleet janitor"},
        )
        try:
            if not await connection.fetchval("select pg_try_advisory_lock(hashtextextended('janitor', 0))"):
                self._say(ANOTHER)
                return
            await connection.add_listener(CHANNEL, self.ring)
            await self._recover()
            self._say("")
            self.begun.set()
            self.ring()
            await self._prove(connection)
        finally:
            connection.terminate()

    async def _prove(self, connection: Any) -> None:
        """Until the connection is gone."""
        while True:
            await asyncio.sleep(PROOF_EVERY_S)
            await connection.fetchval("select 1", timeout=PROOF_WITHIN_S)

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            LOG.info("on duty") if not trouble else LOG.warning("not on duty", why=trouble)
        self.trouble = trouble
