"""Where messages wait that are being received: in memory while there is room, in files without a name when not.

A worker's messages share one account of bytes. A large message goes to disk as it comes, and so does
every one while memory is half full; a large one comes back when there is room for it as a whole.
"""

import asyncio
import tempfile
from collections import deque
from typing import IO

from mx.wire import Body

LARGE_BYTES = 2 * 1024 * 1024
"""Held of one message before it goes to disk."""
SMALL_BYTES = 64 * 1024
"""The same while memory is half full."""
WAIT_S = 60.0
"""How long a large message may wait for memory."""


class NoRoom(Exception):
    """The disk is full or broken, or there was no memory in time."""


class Room:
    """The account of what a worker's messages hold of memory."""

    def __init__(self, limit_bytes: int, directory: str | None) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.directory = directory

    @property
    def held_bytes(self) -> int:
        """What messages hold now."""
        return self._held

    @property
    def piece_bytes(self) -> int:
        """How much of one message may be in memory before it goes to disk."""
        return LARGE_BYTES if self._held < self._limit / 2 else SMALL_BYTES

    def change(self, by: int) -> None:
        """A message holds this much more, or less."""
        self._held += by
        if by < 0:
            while self._waiting:
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_result(None)

    async def enough(self, size: int) -> None:
        """Return when this much fits, or nothing else is held. Raises NoRoom after `WAIT_S`."""
        try:
            async with asyncio.timeout(WAIT_S):
                while self._held and self._held + size > self._limit:
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting.append(waiter)
                    await waiter
        except TimeoutError as error:
            raise NoRoom(f"no room for {size} bytes within {WAIT_S:.0f} s") from error


class Arriving:
    """One message that is being received; `close` gives back what it holds."""

    def __init__(self, room: Room, body: Body) -> None:
        self._room, self._body = room, body
        self._counted = 0
        self._file: IO[bytes] | None = None
        self._on_disk = 0
        self._failed = ""

    def feed(self, data: bytes) -> bool:
        """Add what arrived; True when the message has ended."""
        ended = self._body.feed(data)
        self._count(self._body.held_bytes)
        return ended

    @property
    def is_large(self) -> bool:
        """Whether what is in memory should go to disk now."""
        return self._counted > self._room.piece_bytes

    async def to_disk(self) -> None:
        """Write what is in memory to disk, beside the event loop; dropped when the disk does not take it."""
        data = self._body.message()
        self._count(0)
        if not self._failed:
            try:
                self._on_disk += await asyncio.to_thread(self._write, data)
            except OSError as error:
                self._failed = str(error)

    async def message(self) -> bytes:
        """The whole message; it counts as held until `close`. Raises NoRoom."""
        if self._file is None and not self._failed:
            message = self._body.message()
            self._count(len(message))
            return message
        await self.to_disk()
        if self._failed:
            raise NoRoom(self._failed)
        await self._room.enough(self._on_disk)
        self._count(self._on_disk)
        try:
            return await asyncio.to_thread(self._read)
        except OSError as error:
            raise NoRoom(str(error)) from error

    def close(self) -> None:
        """The message is done with; again is harmless."""
        self._count(0)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _count(self, held: int) -> None:
        if held != self._counted:
            self._room.change(held - self._counted)
            self._counted = held

    def _write(self, data: bytes) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._room.directory, buffering=0)  # noqa: SIM115 - `close` closes it
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        return len(data)

    def _read(self) -> bytes:
        if self._file is None:
            raise NoRoom("the message was given up")
        self._file.seek(0)
        return self._file.read()
