"""A process that stores what a directory of records holds, as a receiver does after a start, until it is killed.

`python -m tests.control.quarantine.intake.storing DSN DIRECTORY SEED`; prints a line a committed batch.
"""

import asyncio
import random
import sys
from pathlib import Path

from control.quarantine.ingest import Ingest
from control.quarantine.objects import Objects
from control.quarantine.pack_writer import PackWriter
from control.quarantine.packs import Packs
from control.quarantine.session import Session
from tests.control.quarantine.intake.held import STREAM, OnDisk


def packs_in(directory: Path) -> Packs:
    """The packs of such a directory."""
    return Packs(Objects((directory / "store").as_uri()), directory / "open")


def held_in(directory: Path) -> list[OnDisk]:
    """The records of such a directory by position: N.header and N.body."""
    paths = sorted(directory.glob("*.header"), key=lambda path: int(path.stem))
    return [OnDisk(STREAM, int(path.stem), path.read_bytes(), path.with_suffix(".body")) for path in paths]


async def store(database: str, directory: Path, chance: random.Random) -> None:
    """Store what is not stored, in batches of any size."""
    writer = PackWriter(packs_in(directory))
    ingest = Ingest(Session(database), writer)
    ranges = await ingest.stored(STREAM)
    left = [held for held in held_in(directory) if not any(first <= held.position <= last for first, last in ranges)]
    while left:
        batch, left = left[: (size := chance.randint(1, 20))], left[size:]
        await ingest.store(batch)
        print(len(left), flush=True)
        if chance.random() < 0.2:
            writer._open.clear()
            await writer.seal()


if __name__ == "__main__":
    asyncio.run(store(sys.argv[1], Path(sys.argv[2]), random.Random(int(sys.argv[3]))))
