"""Reads of the big tables, each bounded in time so that one costly search cannot hold up the others."""

from collections.abc import Sequence
from typing import Any

import asyncpg

SEARCH_WITHIN_S = 4.0


class TooSlow(ValueError):
    """A search that the store did not finish in time; the text says how to narrow it."""

    def __init__(self) -> None:
        super().__init__(
            "This search takes too long. Narrow it: by days, by domain, or with a whole word or address"
            " instead of a piece of one."
        )


async def rows(pool: Any, sql: str, values: Sequence[Any], *, within_s: float = SEARCH_WITHIN_S) -> list[Any]:
    """The rows of a query. Raises TooSlow; asyncpg's errors when the server is away."""
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        # A plan for these very values: one for any values would not know which days and words are asked for.
        await connection.execute(
            f"set local statement_timeout = {int(within_s * 1000)}; set local plan_cache_mode = force_custom_plan"
        )
        try:
            found: list[Any] = await connection.fetch(sql, *values)
        except asyncpg.QueryCanceledError as error:
            raise TooSlow from error
        return found
