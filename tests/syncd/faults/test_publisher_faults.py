"""Publishers killed and doubled, under changes."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncd import config
from tests.syncd.faults import times
from tests.syncd.faults.load import load
from tests.syncd.running import Database, domain, publisher

pytestmark = pytest.mark.timeout(600)
Run = Callable[[Any], Any]


async def test_killed_again_and_again(place: config.Etcd, database: str, store: Database, here: Path, run: Run) -> None:
    async with load(store, database, here, run, place) as made:
        for _ in range(times(6, 50)):
            made.publisher.kill()
            made.publisher.start()
            last = await made.change(*domain("between.test"))
            await made.nodes[0].reaches(last.revision, within_s=30)


async def test_two_with_one_name_at_once(
    place: config.Etcd, database: str, store: Database, here: Path, run: Run
) -> None:
    """The election lets a restarted publisher in at once by its name: two of one name do both publish."""
    async with load(store, database, here, run, place) as made:
        second = run(publisher(here, place, database))
        for _ in range(times(3, 20)):
            last = await made.change(*domain("both.test"))
            await made.nodes[1].reaches(last.revision, within_s=30)
            second.kill()
            second.start()
            await asyncio.sleep(0.5)
