"""What a day of the quarantine gets once it is over: an index of pieces of addresses, and fresh figures of itself.

While a day is written to, such an index would cost more than the row itself; a search for a piece of an address reads
the day's rows instead. Done by the janitor, an index at a time, without locking anybody out.
"""

from datetime import date
from typing import Any

from control.quarantine import packs, partitions

WITHIN_S = 900.0
"""For one statement over one day."""
PIECES = "{0}_pieces on {0} using gin (lower(sender || E'\\n' || recipient) gin_trgm_ops)"
"""The index of pieces, of the partition {0}."""
_HAS = (
    "select i.indisvalid as valid from pg_class c join pg_index i on i.indexrelid = c.oid where c.oid = to_regclass($1)"
)


async def close(pool: Any, today: date | None = None) -> int:
    """Close the days that are over and not closed yet; returns how many. Cut at any point, it goes on the next time.

    Raises asyncpg's errors.
    """
    today = today or packs.today()
    closed = 0
    async with pool.acquire() as connection:
        for day in await partitions.days(connection):
            if day < today:
                closed += await _close(connection, f"quarantine_{day:%Y%m%d}")
    return closed


async def _close(connection: Any, part: str) -> bool:
    index = f"{part}_pieces"
    found = await connection.fetchrow(_HAS, index)
    if found is not None and found["valid"]:
        return False
    if found is not None:  # what a cut CREATE INDEX CONCURRENTLY leaves
        await connection.execute(f"drop index concurrently {index}", timeout=WITHIN_S)
    await connection.execute(f"create index concurrently {PIECES.format(part)}", timeout=WITHIN_S)
    for table in (part, part.replace("quarantine", "body_words")):
        await connection.execute(f"vacuum (analyze) {table}", timeout=WITHIN_S)
    return True
