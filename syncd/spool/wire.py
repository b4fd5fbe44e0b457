"""One connection of the spool protocol: frames over a stream, each step checked against the link's table."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from syncd.spool.frames import Frame, Kind, Reader, encode
from syncd.spool.protocol import Link, State

READ_BYTES = 256 * 1024
DRAIN_S = 15.0
"""A peer that takes no byte for so long is gone."""
PING_S, SILENT_S = 1.0, 5.0
"""Idle for so long we ask; silent for so long after that a peer is hung or cut off, and the connection is given up."""
END_S = 1.0
_PING, _PONG = encode(Kind.PING), encode(Kind.PONG)


class Gone(Exception):
    """The connection is over; the text says how."""


class Wire:
    """Frames in and out. The link is set once its purpose is known; the caller bounds how long it waits."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = Reader()
        self._whole: deque[Frame] = deque()
        self.link: Link | None = None

    @property
    def is_open(self) -> bool:
        """Whether both ends have greeted and none has ended."""
        return self.link is not None and self.link.state is State.OPEN and not self._writer.is_closing()

    @property
    def writer(self) -> asyncio.StreamWriter:
        """For what TLS knows of the peer."""
        return self._writer

    async def first(self) -> Frame:
        """The next frame as it is, before there is a link. Raises Gone or BadFrame."""
        while not self._whole:
            await self._fill()
        return self._whole.popleft()

    async def hear(self) -> Frame:
        """The next frame that the table allows; unknown ones of a newer minor are skipped. Raises Gone or BadFrame."""
        while True:
            frame = await self.first()
            if self.link is None or self.link.hear(frame.kind):
                return frame

    async def hear_alive(self) -> Frame:
        """The next frame that is not about being alive; asks after `PING_S`, and answers who asks. Raises Gone too
        when the other end is silent."""
        asked = False
        while True:
            try:
                async with asyncio.timeout(SILENT_S if asked else PING_S):
                    frame = await self.hear()
            except TimeoutError as error:
                if asked:
                    raise Gone(f"silent for {SILENT_S + PING_S:.0f} s") from error
                self.say(Kind.PING, _PING)
                asked = True
                continue
            asked = False
            if frame.kind is Kind.PING:
                self.say(Kind.PONG, _PONG)
            elif frame.kind is not Kind.PONG:
                return frame

    def say(self, kind: Kind, frame: bytes) -> None:
        """Send one frame; it may wait in memory. `drained` bounds that."""
        if self.link is not None:
            self.link.say(kind)
        self._writer.write(frame)

    def say_all(self, kind: Kind, frames: Iterable[bytes]) -> None:
        """Send several of one kind."""
        for frame in frames:
            self.say(kind, frame)

    async def drained(self) -> None:
        """Return once the peer keeps up. Raises Gone."""
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise Gone(f"it takes no more bytes: {error!r}") from error

    async def close(self) -> None:
        """Send what waits, and close; within a second."""
        try:
            async with asyncio.timeout(1.0):
                self._writer.close()
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    async def _fill(self) -> None:
        try:
            data = await self._reader.read(READ_BYTES)
        except OSError as error:
            raise Gone(f"the connection broke: {error}") from error
        if not data:
            cut = "" if self._frames.is_between_frames else " amid a frame"
            raise Gone(f"the other end closed{cut}")
        self._whole.extend(self._frames.feed(data))


class Accepted:
    """The connections that a server has accepted and that are being served: none outlives it."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Task[Any], Wire] = {}

    @contextmanager
    def one(self, wire: Wire) -> Iterator[None]:
        """Around serving a connection in the current task; closes it."""
        task = asyncio.current_task()
        assert task
        self._open[task] = wire
        try:
            yield
        finally:
            del self._open[task]
            wire.abort()

    async def end(self) -> None:
        """Give those that are ending a moment, cut the rest, and return when all are served."""
        if self._open:
            await asyncio.wait(list(self._open), timeout=END_S)
        for wire in list(self._open.values()):
            wire.abort()
        if self._open:
            await asyncio.wait(list(self._open), timeout=END_S)
