"""A connection on which a stream's records go to one holder: kept up, resumed after any break, bounded by a window."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from monitoring import log
from syncd.spool.frames import MINOR, BadFrame, Frame, Kind
from syncd.spool.identity import Identity, uris
from syncd.spool.journal import Kept
from syncd.spool.messages import (
    Farewell,
    Hello,
    Lane,
    Purpose,
    Welcome,
    greeting,
    ranges_frames,
    read_greeting,
    read_ranges,
    record_frames,
)
from syncd.spool.protocol import Link as Steps
from syncd.spool.protocol import Side
from syncd.spool.ranges import Positions
from syncd.spool.stream import Ranges, Stream
from syncd.spool.wire import Gone, Wire

WINDOW_BYTES = 8 * 1024**2
"""Bytes under way that the holder has not acknowledged as held; one record is always allowed."""
CONNECT_S, WELCOME_S = 1.0, 5.0
FIRST_BACK_OFF_S, LAST_BACK_OFF_S = 0.05, 1.0
STEADY_S = 1.0
"""A connection that lived so long was a good one: after it the back-off begins anew."""

_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a holder listens, and what its certificate has to say."""

    name: str
    host: str
    port: int
    uri: str


class Cargo(Protocol):
    """What a link ships, and who is told what became of it. Called on the event loop, never for long."""

    @property
    def stream(self) -> Stream: ...
    def welcomed(self, link: "Link", held: Positions, stored: Positions) -> Iterable[Kept]:
        """What the holder has; returns what it is to be sent, in order."""

    async def content(self, kept: Kept) -> bytes | None:
        """The record's bytes; None when it is not to be shipped any more."""

    def held(self, link: "Link", ranges: Ranges) -> None:
        """The holder has these on disk."""

    def stored(self, link: "Link", ranges: Ranges) -> None:
        """The receiver has these in the quarantine for good."""

    def withdrawn(self, link: "Link", ranges: Ranges) -> None:
        """The receiver has nothing of these that were withdrawn, nor will it."""

    def went_down(self, link: "Link") -> None:
        """The connection ended."""


class Link:
    """A connection to one holder, for one stream and lane. `run` keeps it up until cancelled."""

    def __init__(
        self, target: Target, purpose: Purpose, lane: Lane, cargo: Cargo, identity: Identity,
        holders: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:  # fmt: skip
        self.target, self.purpose, self.lane = target, purpose, lane
        self._cargo, self._identity, self._holders = cargo, identity, holders
        self._queue: deque[Kept] = deque()
        self._queued: set[int] = set()
        self._under_way: dict[int, int] = {}
        self._under_way_bytes = 0
        self._wake = asyncio.Event()
        self._wire: Wire | None = None
        self.down_since = time.monotonic()
        self.has_failed = False
        """Whether the last attempt to connect did."""
        self._said = ""

    @property
    def is_up(self) -> bool:
        """Whether the holder has welcomed us on the connection there is."""
        return self._wire is not None

    @property
    def waiting(self) -> int:
        """Records that are queued or under way."""
        return len(self._queue) + len(self._under_way)

    def has(self, kept: Kept) -> bool:
        """Whether a record is queued or under way on this connection."""
        return kept.item.number in self._queued

    def ship(self, kept: Kept) -> None:
        """Send a record as soon as the window allows; nothing while the link is down, when `welcomed` is asked next."""
        if self._wire and kept.item.number not in self._queued:
            self._queue.append(kept)
            self._queued.add(kept.item.number)
            self._wake.set()

    def tell(self, kind: Kind, ranges: Ranges) -> None:
        """Say RELEASED or WITHDRAWN; nothing while the link is down."""
        if self._wire and ranges:
            self._wire.say_all(kind, ranges_frames(kind, ranges))

    async def run(self) -> None:
        """Connect, ship, and do it again, until cancelled."""
        back_off_s = FIRST_BACK_OFF_S
        while True:
            began = float("inf")
            try:
                async with asyncio.timeout(CONNECT_S + WELCOME_S):
                    wire, welcome = await self._connect()
                began = time.monotonic()
                await self._serve(wire, welcome)
            except (OSError, TimeoutError, Gone, BadFrame) as error:
                self._report(str(error) or type(error).__name__)
            if time.monotonic() - began > STEADY_S:
                back_off_s = FIRST_BACK_OFF_S
            await asyncio.sleep(back_off_s * random.uniform(0.5, 1.0))
            back_off_s = min(LAST_BACK_OFF_S, back_off_s * 2)

    async def _connect(self) -> tuple[Wire, Welcome]:
        self.has_failed = True
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(
                self.target.host, self.target.port, ssl=self._identity.client
            )
        wire = Wire(reader, writer)
        try:
            if self.target.uri not in uris(writer):
                raise Gone(f"it is {uris(writer) or 'nobody we know'}, not {self.target.uri}")
            wire.link = Steps(self.purpose, Side.CONNECTS)
            stream = self._cargo.stream
            hello = Hello(self.purpose, stream.node, stream.epoch, self.lane, self._holders())
            wire.say(Kind.HELLO, greeting(Kind.HELLO, hello))
            answer = await wire.hear()
            if answer.kind is Kind.REFUSE:
                raise Gone(_farewell("refused", answer))
            welcome = read_greeting(answer, Welcome)
            wire.link.is_newer = welcome.minor > MINOR
        except BaseException:
            wire.abort()
            raise
        return wire, welcome

    async def _serve(self, wire: Wire, welcome: Welcome) -> None:
        """Ship on a connection until it ends, which raises Gone."""
        self._wire, self.has_failed = wire, False
        self._report("")
        why = ""
        try:
            held, stored = Positions(welcome.held), Positions(welcome.stored)
            for kept in self._cargo.welcomed(self, held, stored):
                self.ship(kept)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(wire))
                tasks.create_task(self._hear(wire))
        except* (Gone, BadFrame) as errors:
            why = str(errors.exceptions[0])
        finally:
            wire.abort()
            self._wire, self.down_since = None, time.monotonic()
            self._queue.clear()
            self._queued.clear()
            self._under_way.clear()
            self._under_way_bytes = 0
            self._cargo.went_down(self)
        raise Gone(why)

    async def _send(self, wire: Wire) -> None:
        while True:
            while self._queue and (not self._under_way or self._under_way_bytes < WINDOW_BYTES):
                kept = self._queue.popleft()
                content = await self._cargo.content(kept)
                if content is not None:
                    await self._send_one(wire, kept, content)
                else:
                    self._queued.discard(kept.item.number)
            self._wake.clear()
            await self._wake.wait()

    async def _send_one(self, wire: Wire, kept: Kept, content: bytes) -> None:
        number = kept.item.number
        self._under_way[number] = len(content)
        self._under_way_bytes += len(content)
        for index, frame in enumerate(record_frames(Kind.RECORD, kept.item, content)):
            wire.say(Kind.BODY if index else Kind.RECORD, frame)
            await wire.drained()

    async def _hear(self, wire: Wire) -> None:
        while True:
            frame = await wire.hear_alive()
            told = {
                Kind.HELD: self._cargo.held, Kind.STORED: self._cargo.stored, Kind.WITHDRAWN: self._cargo.withdrawn
            }.get(Kind(frame.kind))  # fmt: skip
            if told is None:
                raise Gone(_farewell("ended", frame))
            ranges = read_ranges(frame)
            self._acknowledged(Positions(ranges))
            told(self, ranges)

    def _acknowledged(self, positions: Positions) -> None:
        for number in [number for number in self._under_way if number in positions]:
            self._under_way_bytes -= self._under_way.pop(number)
            self._queued.discard(number)
        self._wake.set()

    def _report(self, why: str) -> None:
        """Log a change of fortune, once."""
        if why == self._said:
            return
        self._said = why
        name = {"holder": self.target.name, "purpose": self.purpose.value, "lane": self.lane}
        if why:
            _log.warning("link_down", why=why, **name)
        else:
            _log.info("link_up", **name)


def _farewell(how: str, frame: Frame) -> str:
    """What the other end said when it ended. Raises BadFrame."""
    last = read_greeting(frame, Farewell)
    return f"{how}: {last.code} {last.words}"
