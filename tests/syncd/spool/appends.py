"""`python -m tests.syncd.spool.appends DIRECTORY FIRST`: appends without end, prints each position once it is safe."""

import asyncio
import sys
from pathlib import Path

from tests.syncd.spool.journals import Place, entry

AT_ONCE = 16


async def main(root: Path, first: int) -> None:
    """Append until killed."""
    journal = Place(root).open()
    while True:
        await asyncio.gather(*(_append(journal.append(*entry(n)), n) for n in range(first, first + AT_ONCE)))
        first += AT_ONCE


async def _append(on_disk: "asyncio.Future[None]", position: int) -> None:
    await on_disk
    print(position, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
