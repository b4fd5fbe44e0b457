"""The quarantine's receiver: holds what nodes ship, has it stored in batches, says so, and frees its journal.

HELD needs nothing but this host's disk, so that it is given while PostgreSQL is away. What is held and not stored is
found again after a restart.
"""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path

from monitoring import log
from syncd import config
from syncd.spool.hold import ASIDE, HeldStream, Holding
from syncd.spool.identity import Identity
from syncd.spool.journal import Journal, Kept
from syncd.spool.messages import Purpose
from syncd.spool.ranges import Positions
from syncd.spool.room import Room
from syncd.spool.serve import Server
from syncd.spool.stream import NotNow, Ranges, Stores, Stream

BATCH_RECORDS, BATCH_BYTES = 512, 16 * 1024**2
FILL_S = 0.02
"""How long a batch that is not full waits for more."""
FIRST_BACK_OFF_S, LAST_BACK_OFF_S = 0.05, 2.0
ASK_S = 1.0
"""How long a greeting waits for what the quarantine says is stored; without it records may come again."""

_log = log.get(__name__)


class HeldRecord:
    """One record of a batch, as `Stores` sees it (`syncd.spool.stream.Held`)."""

    def __init__(self, journal: Journal, kept: Kept, content: bytes) -> None:
        self._journal, self.kept = journal, kept
        self._header = content[: kept.item.header_bytes]
        self._content = content if kept.content is not None else None

    @property
    def stream(self) -> Stream:
        """Whose it is."""
        return self._journal.stream

    @property
    def position(self) -> int:
        """Where in its stream."""
        return self.kept.item.number

    @property
    def header(self) -> bytes:
        """The record as JSON, as it came."""
        return self._header

    @property
    def body_bytes(self) -> int:
        """Length of the raw message."""
        return self.kept.item.body_bytes

    def read_body(self) -> bytes:
        """The raw message; blocks unless it is in memory still. Raises OSError, or ValueError when it is damaged."""
        content = self._content if self._content is not None else self._journal.read_now(self.kept)
        return content[self.kept.item.header_bytes :]


class Receiver:
    """Listens for nodes and stores what they ship. `run` it until it is cancelled; `port` is real once it listens."""

    def __init__(self, directory: Path, stores: Stores, tls: config.Tls, host: str, port: int) -> None:
        """Raises OSError when the certificate's files cannot be loaded, or the directory cannot be made."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._stores = stores
        self._holding = Holding(directory, Room(directory), directory / ASIDE)
        self._server = Server(host, port, Identity(tls), self._holding, self, "receiver")
        self._queue: OrderedDict[tuple[Stream, int], HeldStream] = OrderedDict()
        self._filled = asyncio.Event()
        self._in_hand: set[tuple[Stream, int]] = set()
        self._to_withdraw: dict[Stream, Positions] = {}
        self._withdrawals = asyncio.Event()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    @property
    def ready(self) -> asyncio.Event:
        """Set once it listens and has read its journal."""
        return self._server.ready

    @property
    def backlog(self) -> int:
        """Records held, not stored yet."""
        return self._holding.count

    @property
    def purposes(self) -> Collection[Purpose]:
        """What nodes may ask of a receiver."""
        return (Purpose.OWN, Purpose.TAKEOVER)

    async def run(self) -> None:
        """Receive until cancelled. Raises OSError when the journal cannot be read or the port is taken."""
        await asyncio.to_thread(self._holding.load)
        for held in self._holding.streams.values():
            for position in held.journal.records:
                self.kept(held, position)
        _log.info("receiving", backlog=self.backlog)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._server.run())
                tasks.create_task(self._store_all())
                tasks.create_task(self._withdraw_all())
        finally:
            await self._holding.close()

    async def stored(self, stream: Stream) -> Ranges:
        """What the quarantine has of a stream; nothing while it cannot say, for records may come again."""
        try:
            async with asyncio.timeout(ASK_S):
                return await self._stores.stored(stream)
        except (NotNow, TimeoutError):
            return ()

    def kept(self, held: HeldStream, position: int) -> None:
        """Queue a record that is on disk."""
        self._queue[held.stream, position] = held
        self._filled.set()

    def withdrawn(self, held: HeldStream, positions: Positions) -> None:
        """Forget records that nobody relies on, and have the quarantine forget them; then they are settled.

        What is being stored this very moment stays here until it is.
        """
        for position in [each for each in held.journal.records if each in positions]:
            if (held.stream, position) not in self._in_hand:
                held.withdraw(Positions([(position, position)]))
        self._to_withdraw.setdefault(held.stream, Positions()).update(positions.ranges())
        self._withdrawals.set()

    async def _store_all(self) -> None:
        while True:
            await self._filled.wait()
            if len(self._queue) < BATCH_RECORDS:
                await asyncio.sleep(FILL_S)
            self._filled.clear()
            while batch := await self._next_batch():
                await self._store(batch)

    async def _next_batch(self) -> list[HeldRecord]:
        batch, size = list[HeldRecord](), 0
        while self._queue and len(batch) < BATCH_RECORDS and size < BATCH_BYTES:
            (stream, position), held = self._queue.popitem(last=False)
            kept = held.journal.records.get(position)
            if kept is None:
                continue
            self._in_hand.add((stream, position))
            if record := await self._read(held, kept):
                batch.append(record)
                size += kept.item.content_bytes
        return batch

    async def _read(self, held: HeldStream, kept: Kept) -> HeldRecord | None:
        """The record for a batch. What the disk spoiled is set aside, and shipped again by its origin."""
        try:
            return HeldRecord(held.journal, kept, await held.journal.read(kept))
        except (OSError, ValueError) as error:
            _log.error("held_record_damaged", stream=str(held.stream), position=kept.item.number, error=str(error))
            await asyncio.to_thread(held.journal.set_aside, kept)
            self._in_hand.discard((held.stream, kept.item.number))
            one = Positions([(kept.item.number, kept.item.number)])
            held.withdraw(one)
            self._server.ask_again(held.stream)
            return None

    async def _withdraw_all(self) -> None:
        while True:
            await self._withdrawals.wait()
            self._withdrawals.clear()
            while self._to_withdraw:
                stream, positions = self._to_withdraw.popitem()
                ranges = positions.ranges()
                await _insist(partial(self._stores.withdraw, stream, ranges), "withdrawn")
                self._server.say_withdrawn(stream, ranges)

    async def _store(self, batch: list[HeldRecord]) -> None:
        """Have a batch stored, however often it takes; then say so and forget it."""
        if not batch:
            return
        await _insist(partial(self._stores.store, batch), "stored", records=len(batch))
        by_stream: dict[Stream, Positions] = {}
        for record in batch:
            self._in_hand.discard((record.stream, record.position))
            by_stream.setdefault(record.stream, Positions()).add(record.position)
        for stream, positions in by_stream.items():
            if held := self._holding.streams.get(stream):
                held.release(positions)
            self._server.say_stored(stream, positions.ranges())


async def _insist(act: Callable[[], Awaitable[None]], what: str, **of: int) -> None:
    """Do what the quarantine may not be able to do now, until it is done."""
    back_off_s, began = FIRST_BACK_OFF_S, time.monotonic()
    while True:
        try:
            await act()
            break
        except NotNow as error:
            if back_off_s == FIRST_BACK_OFF_S:
                _log.warning(f"not_{what}_now", error=str(error), **of)
        await asyncio.sleep(back_off_s * random.uniform(0.5, 1.0))
        back_off_s = min(LAST_BACK_OFF_S, back_off_s * 2)
    if back_off_s > FIRST_BACK_OFF_S:
        _log.info(f"{what}_again", after_s=round(time.monotonic() - began, 1), **of)
