"""`python -m control dictionary`: trains a dictionary for packs on the mail that is kept, and stores it as the newest.

A dictionary has a number, which every frame names that was made with it; old ones stay in the store, so that what they
packed stays readable. The receiver takes the newest when it starts: restart it afterwards.
"""

import asyncio
import random
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from control.quarantine import frames, packs
from control.quarantine.objects import Away, Gone
from control.quarantine.packs import BodyLost, Packs
from control.store.pool import ANSWER_WITHIN_S, CONNECT_WITHIN_S
from syncd.config import Control

SAMPLES = 4_000
"""Mails; some thousand are enough for 112 KB, more make the training longer and nothing better."""
SAMPLES_BYTES = 64 << 20
FEWEST = 200
_KEPT = (
    "select pack, pack_offset, pack_bytes from quarantine where pack <> '' and received_at >= $1 and received_at < $2"
    " order by md5(txn) limit $3"
)


class TooFew(Exception):
    """There is not enough kept mail to train on; the text says how much is wanted."""


def run(settings: Control, *, metrics_port: int) -> None:
    """Train, store, say what was done. Ends the process with 1 and a sentence when it cannot be done."""
    try:
        number, size, mails = asyncio.run(_run(settings))
    except (TooFew, Away, Gone, OSError, asyncpg.PostgresError, TimeoutError, ValueError) as error:
        sys.exit(f"dictionary: {error or type(error).__name__}")
    print(f"dictionary {number}: {size} bytes, trained on {mails} mails; the receiver takes it at its next start")


async def make(pool: Any, place: Packs) -> tuple[int, int, int]:
    """Train on kept mail and store the dictionary; returns its number, its bytes, and how many mails it was made of.

    Raises TooFew, Away, ValueError (the samples do not do), asyncpg's errors.
    """
    samples = await _samples(pool, place)
    if len(samples) < FEWEST:
        raise TooFew(f"{len(samples)} kept mails can be read, at least {FEWEST} are wanted")
    return await store(place, samples)


async def store(place: Packs, samples: list[bytes]) -> tuple[int, int, int]:
    """Train on these mails and store the dictionary under the next number; see `make`."""
    number = await place.newest_number() + 1
    trained = await asyncio.to_thread(frames.train, samples, number)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / str(number)
        await asyncio.to_thread(file.write_bytes, trained)
        # Never over another: two that trained at once would leave frames that no dictionary fits.
        await place.objects.put(f"{packs.DICTIONARIES}/{number}", file, is_new=True)
    return number, len(trained), len(samples)


async def _run(settings: Control) -> tuple[int, int, int]:
    async with asyncpg.create_pool(
        settings.database, min_size=0, max_size=2, timeout=CONNECT_WITHIN_S, command_timeout=ANSWER_WITHIN_S
    ) as pool:
        return await make(pool, packs.open(settings))


async def _samples(pool: Any, place: Packs) -> list[bytes]:
    """Mails of all days that are kept, drawn by lot; what cannot be read is left out."""
    from_days = await pool.fetch("select distinct day from packs order by day")
    found: list[bytes] = []
    for row in from_days:
        begin = datetime(row["day"].year, row["day"].month, row["day"].day, tzinfo=UTC)
        wanted = SAMPLES // len(from_days) + 1
        for kept in await pool.fetch(_KEPT, begin, begin + timedelta(days=1), wanted):
            try:
                found.append(await place.read(kept["pack"], kept["pack_offset"], kept["pack_bytes"]))
            except BodyLost:
                continue
    random.Random(1).shuffle(found)
    return _within(found, SAMPLES_BYTES)


def _within(mails: list[bytes], most: int) -> list[bytes]:
    """As many of the mails as fit into so many bytes."""
    room, taken = most, []
    for mail in mails:
        room -= len(mail)
        if room < 0:
            break
        taken.append(mail)
    return taken
