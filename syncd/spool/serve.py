"""The listening side of links between hosts: greets origins, holds what they ship, acknowledges it when it is safe."""

import asyncio
import time
from collections.abc import Collection

from monitoring import log
from syncd.spool.frames import MINOR, BadFrame, Frame, Kind, WrongVersion
from syncd.spool.hold import Conflict, Holding, is_epoch
from syncd.spool.identity import Identity, node_of
from syncd.spool.messages import (
    MAX_RANGES,
    Code,
    Farewell,
    Hello,
    Item,
    Purpose,
    Welcome,
    greeting,
    ranges_frames,
    read_greeting,
    read_item,
    read_part,
    read_ranges,
)
from syncd.spool.protocol import Link, Side
from syncd.spool.ranges import Positions
from syncd.spool.session import Keeper, Refused, Session
from syncd.spool.stream import Ranges, Stream
from syncd.spool.wire import Accepted, Gone, Wire

GREETING_S = 5.0
MAX_UNSYNCED_BYTES = 32 * 1024**2
"""Bytes of one connection that wait for the disk; no more is read until there are fewer."""
BACKLOG = 128
RENEW_S = 60.0
TIDY_S = 5.0

_log = log.get(__name__)


class Server:
    """Serves links on `host:port`, TLS only. `port` is the real one once `ready` is set."""

    def __init__(self, host: str, port: int, identity: Identity, holding: Holding, keeper: Keeper, name: str) -> None:
        self.host, self.port, self.name = host, port, name
        self._identity, self._holding, self._keeper = identity, holding, keeper
        self._sessions: dict[Stream, dict[Session, None]] = {}
        self._accepted = Accepted()
        self._said: dict[str, Code] = {}
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled; then end every connection with a BYE, so that its origin asks again what we have."""
        server = await asyncio.start_server(
            self._accept, self.host, self.port, ssl=self._identity.server, backlog=BACKLOG,
            ssl_handshake_timeout=GREETING_S,
        )  # fmt: skip
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._renew())
                tasks.create_task(self._tidy())
        finally:
            server.close()
            for session in [each for some in self._sessions.values() for each in some]:
                session.end(Kind.BYE, Code.ENDING, "this process ends")
            await self._accepted.end()

    @property
    def connected(self) -> Collection[Stream]:
        """Streams whose origin, or who took over from it, is connected."""
        return self._sessions.keys()

    def say_stored(self, stream: Stream, ranges: Ranges) -> None:
        """Tell every connection of a stream that these are in the quarantine."""
        for session in self._sessions.get(stream, ()):
            session.stored.update(ranges)
            if session.wire.is_open:
                session.wire.say_all(Kind.STORED, ranges_frames(Kind.STORED, ranges))

    def say_withdrawn(self, stream: Stream, ranges: Ranges) -> None:
        """Tell them that nothing of these is in the quarantine, nor will be."""
        for session in self._sessions.get(stream, ()):
            session.stored.update(ranges)
            if session.wire.is_open:
                kind = Kind.WITHDRAWN if session.purpose is Purpose.OWN else Kind.STORED
                session.wire.say_all(kind, ranges_frames(kind, ranges))

    def ask_again(self, stream: Stream) -> None:
        """End the connections of a stream: what we hold of it has become less, so that its origin ships it again."""
        for session in list(self._sessions.get(stream, ())):
            session.end(Kind.BYE, Code.AGAIN, "a record was damaged on this disk")

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        with self._accepted.one(wire):
            await self._talk(wire, node_of(writer))

    async def _talk(self, wire: Wire, peer: str) -> None:
        try:
            async with asyncio.timeout(GREETING_S):
                session = await self._greet(wire, peer)
            await self._serve(session)
        except Refused as error:
            await self._refuse(wire, peer, error)
        except WrongVersion as error:
            await self._refuse(wire, peer, Refused(Code.VERSION, str(error)))
        except BadFrame as error:
            await self._refuse(wire, peer, Refused(Code.PROTOCOL, str(error)))
        except (Gone, TimeoutError, OSError) as error:
            _log.info("peer_gone", peer=peer, why=str(error) or "no greeting in time")

    async def _greet(self, wire: Wire, peer: str) -> Session:
        frame = await wire.first()
        if frame.kind is not Kind.HELLO:
            raise BadFrame("no HELLO")
        hello = read_greeting(frame, Hello)
        stream = self._allowed(hello, peer)
        if lacking := self._holding.room.lacks():
            raise Refused(Code.FULL, lacking)
        wire.link = Link(hello.purpose, Side.LISTENS)
        wire.link.is_newer = hello.minor > MINOR
        wire.link.hear(frame.kind)
        stored = Positions(await self._keeper.stored(stream))
        held = self._holding.of(stream)  # from here to `_serve` nothing awaits, so that no acknowledgement is missed
        have, done = held.held.ranges(), stored.ranges()
        half = MAX_RANGES // 8
        wire.say(Kind.WELCOME, greeting(Kind.WELCOME, Welcome(have[:half], done[:half])))
        wire.say_all(Kind.HELD, ranges_frames(Kind.HELD, have[half:]))
        wire.say_all(Kind.STORED, ranges_frames(Kind.STORED, done[half:]))
        self._said.pop(peer, None)
        return Session(wire, held, hello.purpose, stored)

    def _allowed(self, hello: Hello, peer: str) -> Stream:
        """The stream, when this peer may speak for it here. Raises Refused."""
        if hello.major != 1:
            raise Refused(Code.VERSION, f"major version {hello.major}; this side speaks 1.{MINOR}")
        if hello.purpose not in self._keeper.purposes:
            raise Refused(Code.FORBIDDEN, f"{hello.purpose} is not asked of {self.name}")
        if not is_epoch(hello.epoch):
            raise Refused(Code.PROTOCOL, "an epoch is 32 hex characters")
        foreign = hello.purpose is Purpose.TAKEOVER
        if not peer or not hello.node or (hello.node == peer) is foreign or peer == self.name:
            raise Refused(Code.FORBIDDEN, f"{peer or 'no node'} does not speak for the stream of {hello.node[:63]!r}")
        return Stream(hello.node, hello.epoch)

    async def _serve(self, session: Session) -> None:
        """Take what comes until the connection ends, which raises Gone, or has to be refused."""
        stream, held = session.held.stream, session.held
        self._sessions.setdefault(stream, {})[session] = None
        try:
            while True:
                frame = await session.wire.hear_alive()
                held.heard_at = time.monotonic()
                await self._heard(session, frame)
        finally:
            held.heard_at = time.monotonic()
            del self._sessions[stream][session]
            if not self._sessions[stream]:
                del self._sessions[stream]

    async def _heard(self, session: Session, frame: Frame) -> None:
        whole = None
        if frame.kind is Kind.RECORD:
            whole = session.assembly.begin(*read_item(frame))
        elif frame.kind is Kind.BODY:
            whole = session.assembly.go_on(*read_part(frame))
        elif frame.kind is Kind.RELEASED:
            session.held.release(Positions(read_ranges(frame)))
        elif frame.kind is Kind.WITHDRAWN:
            self._keeper.withdrawn(session.held, Positions(read_ranges(frame)))
        else:
            raise Gone(f"it said {frame.kind!r}")
        if whole:
            self._keep(session, *whole)
            while session.unsynced_bytes > MAX_UNSYNCED_BYTES:
                session.synced.clear()
                await session.synced.wait()
            await session.wire.drained()

    def _keep(self, session: Session, item: Item, content: bytes) -> None:
        if item.number in session.stored:
            session.wire.say_all(Kind.STORED, ranges_frames(Kind.STORED, ((item.number, item.number),)))
            return
        is_new = item.number not in session.held.journal.records
        if is_new and (lacking := self._holding.room.lacks(item.content_bytes)):
            raise Refused(Code.FULL, lacking)
        try:
            done = session.held.keep(item, content)
        except Conflict as error:
            _log.error("position_conflict", stream=str(session.held.stream), error=str(error))
            raise Refused(Code.CONFLICT, str(error)) from error
        session.unsynced_bytes += item.content_bytes
        done.add_done_callback(lambda done: self._settled(session, item, done, is_new))

    def _settled(self, session: Session, item: Item, done: "asyncio.Future[None]", is_new: bool) -> None:
        session.unsynced_bytes -= item.content_bytes
        session.synced.set()
        if done.cancelled() or (error := done.exception()):
            session.end(Kind.REFUSE, Code.FULL, "this process ends" if done.cancelled() else str(error))
            return
        for each in self._sessions.get(session.held.stream, ()):
            each.safe(item.number)  # on all of them: the one it came by may be given up at the other end already
        if is_new:
            self._keeper.kept(session.held, item.number)

    async def _refuse(self, wire: Wire, peer: str, error: Refused) -> None:
        """Last words to a peer that is not served; they may not arrive."""
        if self._said.get(peer) is not error.code:
            _log.warning("link_refused", peer=peer, code=error.code.value, why=error.words)
            self._said[peer] = error.code  # the names of peers are those of our own certificates
        wire.link = None
        wire.say(Kind.REFUSE, greeting(Kind.REFUSE, Farewell(error.code, error.words)))
        await wire.close()

    async def _renew(self) -> None:
        """Take up renewed certificates."""
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                if await asyncio.to_thread(self._identity.refresh):
                    _log.info("certificate_renewed")
            except OSError as error:
                _log.error("certificate_unreadable", error=str(error))

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_S)
            await self._holding.tidy(self.connected)
