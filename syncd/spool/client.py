"""A worker's side of the spool: hands over copies and waits, tells events and the mail ledger and does not wait."""

import asyncio
import itertools
import random
import secrets
import time
from collections import deque
from contextlib import nullcontext, suppress
from typing import Self

import msgspec

from monitoring import log
from monitoring.metrics import mx as metrics
from syncd.spool.frames import CHUNK_BYTES, BadFrame, Frame, Kind
from syncd.spool.messages import (
    ANSWER_MARGIN_S,
    LARGE_BYTES,
    Hello,
    Item,
    Purpose,
    greeting,
    item,
    number_frame,
    opened_frame,
    read_number,
    read_words,
    record_frames,
)
from syncd.spool.protocol import Link, Side
from syncd.spool.record import Record
from syncd.spool.wire import Gone, Wire

CONNECT_S = 1.0
FIRST_BACK_OFF_S, LAST_BACK_OFF_S = 0.02, 0.5
MAX_EVENTS, MAX_EVENT_BYTES = 10_000, 32 * 1024 * 1024
"""Events that wait for their acknowledgement; what comes on top is dropped and counted."""
EVENTS_UNDER_WAY = 64
"""Events that are told and not acknowledged; the rest waits here, so that no copy waits behind a thousand events."""
MAX_GIVEN_UP = 1024
"""Submissions given up lately: told again on a new connection, for the old one may have been cut before."""
MAX_IN_PARTS = 4
"""Records of more than one frame that are under way at once; more wait their turn."""
CLOSE_S = 2.0

_log = log.get(__name__)


class NotSecured(Exception):
    """Nothing may be answered that relies on this copy; the text says why it is not on two hosts."""


class SpoolClient:
    """The node's spool process as one worker sees it. An async context manager; connects by itself, now and again.

    Everything works without a spool process: copies raise `NotSecured`, events and the ledger wait until it is there.
    """

    def __init__(self, socket_path: str, timeout_s: float = 1.0) -> None:
        self._path, self._timeout_s = socket_path, timeout_s
        self._numbers = itertools.count(1)
        self._hello = Hello(Purpose.WORKER, instance=secrets.token_hex(8))
        self._wire: Wire | None = None
        self._is_up = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._events: dict[int, tuple[Item, bytes]] = {}
        self._event_bytes = 0
        self._untold: deque[int] = deque()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._open: dict[str, int] = {}
        self._given_up: deque[int] = deque(maxlen=MAX_GIVEN_UP)
        self._in_parts = asyncio.Semaphore(MAX_IN_PARTS)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S if self._wire else 0):
                await self._is_idle.wait()
        assert self._task
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def secure(self, record: Record, body: bytes) -> None:
        """Return once this host and another hold the copy on disk.

        Raises NotSecured, with the reason, within `timeout_s`. Cancelled or too late, the copy is withdrawn, wherever
        it is by then.
        """
        deadline, number = time.monotonic() + self._timeout_s, next(self._numbers)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._submit(number, record, body, deadline)
        except TimeoutError as error:
            raise NotSecured(f"the spool did not answer within {self._timeout_s} s") from error
        finally:
            answer = self._waiting.pop(number, None)
            if answer and (not answer.done() or answer.cancelled()):
                self._given_up.append(number)
                self._say(Kind.GIVEN_UP, number_frame(Kind.GIVEN_UP, number))
            elif answer:
                answer.exception()  # looked at, so that nobody complains of one that came while we still sent

    def event(self, record: Record) -> None:
        """What became of a transaction. Waits until the spool has it on disk; over the bounds dropped and counted."""
        number = next(self._numbers)
        header = msgspec.json.encode(record)
        if len(self._events) >= MAX_EVENTS or self._event_bytes + len(header) > MAX_EVENT_BYTES:
            metrics.events_dropped.inc()
            return
        try:
            what = item(number, record.kind, record.id, header, b"", 0.0)
        except ValueError as error:
            metrics.events_dropped.inc()
            _log.error("event_dropped", id=record.id, error=str(error))
            return
        self._events[number] = (what, header)
        self._event_bytes += len(header)
        self._is_idle.clear()
        self._untold.append(number)
        self._tell_events()

    def opened(self, txn: str, recipients: int) -> None:
        """A transaction holds this many accepted recipients now."""
        self._open[txn] = recipients
        self._say(Kind.OPENED, opened_frame(txn, recipients))

    def closed(self, txn: str) -> None:
        """It has ended."""
        if self._open.pop(txn, None) is not None:
            self._say(Kind.CLOSED, opened_frame(txn, 0))

    async def _submit(self, number: int, record: Record, body: bytes, deadline: float) -> None:
        header = msgspec.json.encode(record)
        make = (number, record, header, body, deadline)
        try:
            what, content = _whole(*make) if len(body) < LARGE_BYTES else await asyncio.to_thread(_whole, *make)
        except ValueError as error:
            raise NotSecured(str(error)) from error
        while (wire := self._wire) is None:
            await self._is_up.wait()
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with self._in_parts if what.content_bytes > CHUNK_BYTES else nullcontext():
                await _send(wire, what, content)
        except Gone as error:
            raise NotSecured(f"the spool: {error}") from error
        await answer

    def _say(self, kind: Kind, frame: bytes) -> None:
        if self._wire:
            self._wire.say(kind, frame)

    def _tell_events(self) -> None:
        """Tell as many events as may be under way."""
        while self._wire and self._untold and len(self._events) - len(self._untold) < EVENTS_UNDER_WAY:
            what, header = self._events[self._untold.popleft()]
            for index, frame in enumerate(record_frames(Kind.SUBMIT, what, header)):
                self._wire.say(Kind.BODY if index else Kind.SUBMIT, frame)

    async def _run(self) -> None:
        """Stay connected until cancelled."""
        back_off_s, was_up = FIRST_BACK_OFF_S, True
        while True:
            try:
                async with asyncio.timeout(CONNECT_S):
                    wire = await self._connect()
            except (OSError, TimeoutError, Gone, BadFrame) as error:
                if was_up:
                    _log.warning("spool_away", error=repr(error))
                was_up = False
                await asyncio.sleep(back_off_s * random.uniform(0.5, 1.0))
                back_off_s = min(LAST_BACK_OFF_S, back_off_s * 2)
                continue
            back_off_s, was_up = FIRST_BACK_OFF_S, True
            try:
                await self._stay(wire)
            except (Gone, BadFrame) as error:
                _log.warning("spool_lost", error=str(error))
            finally:
                self._lose(wire)

    async def _connect(self) -> Wire:
        reader, writer = await asyncio.open_unix_connection(self._path)
        wire = Wire(reader, writer)
        try:
            wire.link = Link(Purpose.WORKER, Side.CONNECTS)
            wire.say(Kind.HELLO, greeting(Kind.HELLO, self._hello))
            if (await wire.hear()).kind is not Kind.WELCOME:
                raise Gone("it refuses us")
        except BaseException:
            wire.abort()
            raise
        return wire

    async def _stay(self, wire: Wire) -> None:
        """Tell again what is open and what was given up, then serve the connection until it ends, which raises."""
        for txn, recipients in self._open.items():
            wire.say(Kind.OPENED, opened_frame(txn, recipients))
        for number in self._given_up:
            wire.say(Kind.GIVEN_UP, number_frame(Kind.GIVEN_UP, number))
        self._wire = wire
        self._untold = deque(self._events)
        self._tell_events()
        self._is_up.set()
        while True:
            self._heard(wire, await wire.hear_alive())

    def _heard(self, wire: Wire, frame: Frame) -> None:
        if frame.kind in (Kind.SECURED, Kind.NOT_SECURED):
            number = read_number(frame)
            if told := self._events.get(number):
                self._forget_event(number, told[1])
                if frame.kind is Kind.NOT_SECURED:  # its disk is full or broken: mail matters more than its events
                    metrics.events_dropped.inc()
            elif (answer := self._waiting.get(number)) and not answer.done():
                if frame.kind is Kind.SECURED:
                    answer.set_result(None)
                else:
                    answer.set_exception(NotSecured(read_words(frame)))

    def _forget_event(self, number: int, header: bytes) -> None:
        del self._events[number]
        self._event_bytes -= len(header)
        if not self._events:
            self._is_idle.set()
        self._tell_events()

    def _lose(self, wire: Wire) -> None:
        self._wire = None
        self._is_up.clear()
        wire.abort()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(NotSecured("the spool process went away"))


def _whole(number: int, record: Record, header: bytes, body: bytes, deadline: float) -> tuple[Item, bytes]:
    """Item and content of a copy. Raises ValueError for one over the bounds."""
    return item(number, record.kind, record.id, header, body, deadline - ANSWER_MARGIN_S), header + body


async def _send(wire: Wire, what: Item, content: bytes) -> None:
    for index, frame in enumerate(record_frames(Kind.SUBMIT, what, content)):
        await wire.drained()
        wire.say(Kind.BODY if index else Kind.SUBMIT, frame)
