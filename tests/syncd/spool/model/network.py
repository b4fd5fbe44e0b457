"""Connections between simulated processes: bytes arrive late, in pieces, in order, or not while a link is cut."""

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.syncd.spool.model.loop import SimLoop

HIGH_BYTES = 256 * 1024
RETRANSMIT_S = 0.2


class SimServer:
    """A listener."""

    def __init__(self, loop: "SimLoop", factory: Any, at: Any, uri: str) -> None:
        self.loop, self.factory, self.at, self.uri = loop, factory, at, uri
        loop.world.listeners[at] = self
        self.sockets = [self]

    def getsockname(self) -> Any:
        """Where it listens."""
        return self.at

    def close(self) -> None:
        """No more connections."""
        if self.loop.world.listeners.get(self.at) is self:
            del self.loop.world.listeners[self.at]


class Transport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, loop: "SimLoop", protocol: Any, peer_uri: str) -> None:
        super().__init__({"peercert": {"subjectAltName": (("URI", peer_uri),)} if peer_uri else {}})
        self.loop, self.protocol = loop, protocol
        self.peer: Transport = self
        self._is_closing = self._is_lost = self._is_paused = self._is_full = False
        self._arrived: list[bytes] = []
        self._free_at, self._under_way = 0.0, 0
        loop.transports[self] = None

    def write(self, data: Any) -> None:
        """Send, in one piece or two."""
        data = bytes(data)
        if self._is_closing or not data:
            return
        cut = self.loop.world.rng.randrange(len(data)) if len(data) > 1 and self.loop.world.rng.random() < 0.1 else 0
        for piece in (data[:cut], data[cut:]):
            if piece:
                self._under_way += len(piece)
                self._send(lambda piece=piece: self._deliver(piece))  # type: ignore[misc]
        if self._under_way > HIGH_BYTES and not self._is_full:
            self._is_full = True
            self.protocol.pause_writing()

    def _send(self, act: Any) -> None:
        """Do this at the other end, behind all that was sent before; not while the link is cut."""
        world = self.loop.world
        self._free_at = max(self._free_at, world.now + world.delay(self.loop.host, self.peer.loop.host))

        def arrive() -> None:
            if world.is_cut(self.loop.host, self.peer.loop.host):
                if not (self.loop.is_dead and self._is_lost):
                    world.after(RETRANSMIT_S, arrive)
            else:
                act()

        world.at(self._free_at, arrive)

    def _deliver(self, data: bytes) -> None:
        self._under_way -= len(data)
        if self._is_full and self._under_way < HIGH_BYTES // 2:
            self._is_full = False
            self.loop.call_soon(self.protocol.resume_writing)
        self.peer._arrive(data)

    def _arrive(self, data: bytes) -> None:
        if self._is_lost or self.loop.is_dead:
            return
        if self._is_paused:
            self._arrived.append(data)
        else:
            self.loop.call_soon(self._received, data)

    def _received(self, data: bytes) -> None:
        if not self._is_lost:
            self.protocol.data_received(data)

    def pause_reading(self) -> None:
        """Keep what arrives."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Give what was kept."""
        self._is_paused = False
        arrived, self._arrived = self._arrived, []
        for data in arrived:
            self._arrive(data)

    def is_closing(self) -> bool:
        """Whether this end was closed."""
        return self._is_closing

    def close(self) -> None:
        """End behind what was sent."""
        if not self._is_closing:
            self._is_closing = True
            self._send(lambda: self.peer._lose())
            self.loop.call_soon(self._lose)

    def abort(self) -> None:
        """End."""
        self.close()

    def _lose(self) -> None:
        """The connection is over at this end."""
        if not self._is_lost and not self.loop.is_dead:
            self.loop.call_soon(self._lost)

    def _lost(self) -> None:
        if not self._is_lost:
            self._is_lost = self._is_closing = True
            self.loop.transports.pop(self, None)
            self.protocol.connection_lost(None)

    def died(self) -> None:
        """The process of this end was killed: its system says so to the other end. Not after a power cut."""
        if not self._is_lost:
            self._is_lost = True
            self._send(lambda: self.peer._lose())

    def get_write_buffer_size(self) -> int:
        """Bytes under way."""
        return self._under_way

    def can_write_eof(self) -> bool:
        """As with TLS."""
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """One size fits all."""


async def connect(loop: "SimLoop", factory: Any, at: Any, uri: str) -> tuple[Transport, Any]:
    """Both ends of a new connection. Raises ConnectionRefusedError; waits for ever while the link is cut."""
    world = loop.world
    host = at[0] if isinstance(at, tuple) else loop.host
    await asyncio.sleep(world.delay(loop.host, host))
    while world.is_cut(loop.host, host) or world.is_cut(host, loop.host) or world.is_off(host):  # noqa: ASYNC110
        await asyncio.sleep(RETRANSMIT_S)
    server = world.listeners.get(at)
    if server is None or server.loop.is_dead:
        raise ConnectionRefusedError("nobody listens")
    mine, theirs = factory(), server.factory()
    here, there = Transport(loop, mine, server.uri), Transport(server.loop, theirs, uri)
    here.peer, there.peer = there, here
    mine.connection_made(here)
    server.loop.call_soon(theirs.connection_made, there)
    return here, mine
