"""A janitor that is killed again and again in the middle of many releases: no mail goes twice, none is forgotten."""

import asyncio
import os
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from control.quarantine import bulk, release
from control.quarantine.search import Query
from syncd.layers import NextHop
from tests.control.api.conftest import until
from tests.control.quarantine.acts.conftest import ME
from tests.control.quarantine.acts.janitors import JanitorProcess
from tests.control.quarantine.acts.test_janitor import janitor, kept
from tests.nexthops import scripted

__all__ = ["janitor"]

MAILS = int(os.environ.get("KILLED_RELEASES", "60"))
KILLS = max(12, MAILS // 20)
"""KILLED_RELEASES=1000 is the long form."""


@dataclass
class Slow:
    """A server that takes its time at every step; `began` and `arrived` count mails by their number."""

    chance: random.Random
    began: Counter[int] = field(default_factory=Counter)
    """Mails of which at least the number was read."""
    arrived: Counter[int] = field(default_factory=Counter)
    """Mails whose final dot was read: this server has them, whether its answer was heard or not."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[NextHop]:
        """It, on a port."""
        async with scripted(self._speak) as hop:
            yield hop

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._say(writer, b"220 hop")
        while line := await reader.readline():
            if line[:4].upper() != b"DATA":
                await self._say(writer, b"250 ok")
                continue
            await self._say(writer, b"354 go")
            await self._message(reader)
            await self._say(writer, b"250 taken")

    async def _message(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"X-Test: (\d+)", head)
        assert found
        self.began[int(found[1])] += 1
        await reader.readuntil(b"\r\n.\r\n")
        self.arrived[int(found[1])] += 1

    async def _say(self, writer: asyncio.StreamWriter, line: bytes) -> None:
        await asyncio.sleep(self.chance.uniform(0, 0.05))
        writer.write(line + b"\r\n")
        with suppress(ConnectionError):
            await writer.drain()


async def test_each_arrives_once_or_is_shown_as_unknown(pool: Any, janitor: JanitorProcess) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    server = Slow(random.Random(seed))
    async with server.running() as hop:
        numbers: dict[str, int] = {}
        for number in range(MAILS):
            item = await kept(pool, janitor, hop, b"X-Test: %d\r\n\r\nbody\r\n" % number)
            numbers[await release.request(pool, ME, item, {})] = number
        await _kill_and_start(pool, janitor, server.chance)
        await until(lambda: _all_ended(pool), within_s=60)
    states = {numbers[row["id"]]: row["state"] for row in await pool.fetch("select id, state from jobs")}
    assert len(states) == MAILS
    assert set(states.values()) <= {"done", "unknown"}
    assert max(server.arrived.values()) == 1, "a mail went twice"
    assert max(server.began.values()) == 1, "a mail that had begun to leave was begun again"
    lost = [number for number, state in states.items() if state == "done" and server.arrived[number] != 1]
    assert not lost, "shown as delivered, and never arrived"
    print(f"{Counter(states.values())}, {sum(server.arrived.values())} arrived")


async def test_a_bulk_act_survives_kills_exact_to_the_item(pool: Any, janitor: JanitorProcess) -> None:
    """Each mail of a bulk release arrives once or is shown as not done; then all of it is deleted, item by item."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    server = Slow(random.Random(seed))
    async with server.running() as hop:
        for number in range(MAILS):
            await kept(pool, janitor, hop, b"X-Test: %d\r\n\r\nbody\r\n" % number)
        act = await bulk.begin(pool, ME, "release", query=Query())
        await _kill_and_start(pool, janitor, server.chance)
        await until(lambda: _bulk_ended(pool, act), within_s=60 + MAILS / 5)
        found = await bulk.get(pool, ME, act)
        delete = await bulk.begin(pool, ME, "delete", query=Query())
        await until(lambda: _bulk_ended(pool, delete), within_s=60)
    assert max(server.arrived.values()) == 1, "a mail went twice"
    assert set(found.counts) <= {"done", "failed"}, found.counts
    assert found.total == MAILS
    assert found.counts["done"] <= sum(server.arrived.values())
    assert (await bulk.get(pool, ME, delete)).counts == {"done": MAILS}
    assert await pool.fetchval("select count(*) from jobs") == MAILS


async def _bulk_ended(pool: Any, act: str) -> bool:
    return not (await bulk.get(pool, ME, act)).is_open


async def _kill_and_start(pool: Any, janitor: JanitorProcess, chance: random.Random) -> None:
    for _ in range(KILLS):
        await asyncio.to_thread(janitor.start)
        await asyncio.sleep(chance.uniform(0, 0.4))  # the point of time is what is tried
        await asyncio.to_thread(janitor.kill)
    await asyncio.to_thread(janitor.start)


async def _all_ended(pool: Any) -> bool:
    return not await pool.fetchval("select count(*) from jobs where state in ('queued', 'running')")
