"""Takes records from the workers of this node on a unix socket, and answers each: secured, or not and why."""

import asyncio
import os
import socket
import time
from collections import OrderedDict
from pathlib import Path
from typing import Protocol

from monitoring import log
from monitoring.metrics import syncd as metrics
from syncd.spool.assembly import Assembly
from syncd.spool.frames import MINOR, BadFrame, Frame, Kind, WrongVersion
from syncd.spool.journal import Kept
from syncd.spool.ledger import OpenTransactions
from syncd.spool.messages import (
    Code,
    Farewell,
    Hello,
    Item,
    Purpose,
    Welcome,
    greeting,
    number_frame,
    read_greeting,
    read_item,
    read_number,
    read_opened,
    read_part,
)
from syncd.spool.protocol import Link, Side
from syncd.spool.record import Kind as RecordKind
from syncd.spool.wire import Accepted, Gone, Wire

GREETING_S = 5.0
WRITE_OFF_S = 0.5
END_S = 1.5
"""At the end of this process: how long what is under way may take to be answered."""
BACKLOG = 128
MAX_SECURED = 8192
"""Answers that workers may still not have read; far more than they have sessions at the dot."""

_log = log.get(__name__)


class Refusal(Exception):
    """A record is not secured; the text says why."""


class Secures(Protocol):
    """What secures records (`syncd.spool.node`)."""

    async def secure(self, item: Item, content: bytes, by: float) -> Kept:
        """Return once two hosts hold it, before `by` (CLOCK_MONOTONIC). Raises Refusal. Cancelled, it is withdrawn."""

    def give_up(self, kept: Kept) -> None:
        """Withdraw a record that was secured: its worker did not hear of it in time."""

    async def note(self, item: Item, content: bytes) -> None:
        """Return once an event is in the journal. Raises Refusal."""


class Submissions:
    """The unix socket for workers. `run` it until cancelled."""

    def __init__(self, path: str, secures: Secures) -> None:
        self._path, self._secures = path, secures
        self._ledger = OpenTransactions(time.monotonic)
        self._sessions: dict[_Session, None] = {}
        self._secured = Secured()
        self._accepted = Accepted()

    async def run(self) -> None:
        """Serve; at the end what is under way is answered first, within a bound. Raises OSError."""
        server = await asyncio.start_unix_server(self._accept, sock=_listening(self._path), backlog=BACKLOG)
        try:
            while True:
                await asyncio.sleep(WRITE_OFF_S)
                if unknown := self._ledger.write_off():
                    _log.error("worker_lost", recipients=unknown)
        finally:
            server.close()
            if under_way := [task for session in self._sessions for task in session.tasks.values()]:
                await asyncio.wait(under_way, timeout=END_S)
            for session in self._sessions:
                session.wire.writer.close()
            await self._accepted.end()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        with self._accepted.one(wire):
            await self._talk(wire)

    async def _talk(self, wire: Wire) -> None:
        try:
            async with asyncio.timeout(GREETING_S):
                hello = await self._greet(wire)
            session = _Session(wire, self._secures, self._ledger, hello.instance, self._secured)
            self._sessions[session] = None
            try:
                await session.serve()
            finally:
                del self._sessions[session]
        except (BadFrame, Gone, TimeoutError) as error:
            _log.info("worker_gone", why=str(error) or "no greeting in time")
            if isinstance(error, BadFrame):
                code = Code.VERSION if isinstance(error, WrongVersion) else Code.PROTOCOL
                wire.link = None
                wire.say(Kind.REFUSE, greeting(Kind.REFUSE, Farewell(code, str(error))))
                await wire.close()

    async def _greet(self, wire: Wire) -> Hello:
        frame = await wire.first()
        if frame.kind is not Kind.HELLO:
            raise BadFrame("no HELLO")
        hello = read_greeting(frame, Hello)
        if hello.major != 1:
            raise WrongVersion(f"major version {hello.major}; this side speaks 1.{MINOR}")
        if hello.purpose is not Purpose.WORKER:
            raise BadFrame(f"{hello.purpose} is not asked here")
        wire.link = Link(Purpose.WORKER, Side.LISTENS)
        wire.link.is_newer = hello.minor > MINOR
        wire.link.hear(frame.kind)
        wire.say(Kind.WELCOME, greeting(Kind.WELCOME, Welcome()))
        return hello


def _listening(path: str) -> socket.socket:
    """A socket in place of whatever an earlier run left; only its owner may connect."""
    Path(path).unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    made.bind(path)
    os.chmod(path, 0o600)
    made.setblocking(False)
    return made


class Secured:
    """What was answered as secured lately, by worker and number: a worker may give up while the answer is on its way,
    and say so on its next connection."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], Kept] = OrderedDict()

    def add(self, instance: str, number: int, kept: Kept) -> None:
        """Remember one; the oldest goes when there are too many."""
        self._kept[instance, number] = kept
        if len(self._kept) > MAX_SECURED:
            self._kept.popitem(last=False)

    def pop(self, instance: str, number: int) -> Kept | None:
        """The record of a submission, once; None when it is not known any more."""
        return self._kept.pop((instance, number), None)


class _Session:
    """One worker's connection after its greeting."""

    def __init__(
        self, wire: Wire, secures: Secures, ledger: OpenTransactions, instance: str, secured: "Secured"
    ) -> None:
        self.wire, self._secures, self._ledger, self._instance = wire, secures, ledger, instance
        self._secured = secured
        self._assembly = Assembly()
        self.tasks: dict[int, asyncio.Task[None]] = {}
        """What is being secured, by the worker's number."""

    async def serve(self) -> None:
        """Serve until the worker goes, which raises Gone or BadFrame. What it had submitted is secured all the same."""
        self._ledger.connected(self._instance)
        try:
            while True:
                self._heard(await self.wire.hear_alive())
                await self.wire.drained()
        finally:
            self._ledger.disconnected(self._instance)
            if self.tasks:
                await asyncio.wait(self.tasks.values())

    def _heard(self, frame: Frame) -> None:
        if frame.kind is Kind.SUBMIT:
            self._take(self._assembly.begin(*read_item(frame)))
        elif frame.kind is Kind.BODY:
            self._take(self._assembly.go_on(*read_part(frame)))
        elif frame.kind is Kind.OPENED:
            self._ledger.opened(self._instance, *read_opened(frame))
        elif frame.kind is Kind.CLOSED:
            self._ledger.closed(self._instance, read_opened(frame)[0])
        elif frame.kind is Kind.GIVEN_UP:
            self._give_up(read_number(frame))
        else:
            raise Gone("it ended")

    def _give_up(self, number: int) -> None:
        if self._assembly.drop(number):
            return
        if number in self.tasks:
            self.tasks[number].cancel()
        if kept := self._secured.pop(self._instance, number):
            self._secures.give_up(kept)

    def _take(self, whole: tuple[Item, bytes] | None) -> None:
        if whole:
            number = whole[0].number
            self.tasks[number] = asyncio.create_task(self._answer(*whole))
            self.tasks[number].add_done_callback(lambda _: self.tasks.pop(number))

    async def _answer(self, item: Item, content: bytes) -> None:
        words, answer = "", "not_secured"
        try:
            if item.kind is RecordKind.EVENT:
                await self._secures.note(item, content)
                answer = "journalled"
            else:
                kept = await self._secures.secure(item, content, item.at)
                self._secured.add(self._instance, item.number, kept)
                answer = "secured"
        except Refusal as error:
            words = str(error)
            _log.warning("not_secured", id=item.id.rstrip(b"\0").decode(errors="replace"), why=words)
        finally:
            metrics.spool_submitted.labels(item.kind.value, answer).inc()
        if self.wire.is_open:
            kind = Kind.NOT_SECURED if words else Kind.SECURED
            self.wire.say(kind, number_frame(kind, item.number, words))
