"""A TCP proxy whose connections can fall silent, as if a firewall had forgotten them, or be cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from syncd import config


class Proxy:
    """Passes bytes on until told otherwise. Connections made after `silence` work again."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter, asyncio.Event]] = []
        self.port = 0
        self.limit: Callable[[], int] | None = None
        """How many bytes from etcd a new connection may bring before it is reset; None: any."""
        self.cuts = 0

    def silence(self) -> int:
        """Let every present connection live on without a byte; returns how many."""
        for *_, silent in self._open:
            silent.set()
        count, self._open = len(self._open), []
        return count

    def cut(self) -> None:
        """Reset every present connection."""
        for client, server, _ in self._open:
            client.transport.abort()
            server.transport.abort()
        self._open.clear()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        try:
            other_reader, other_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        silent = asyncio.Event()
        self._open.append((writer, other_writer, silent))
        with contextlib.suppress(OSError):
            left = self.limit() if self.limit else None
            await asyncio.gather(
                _pump(reader, other_writer, silent), self._bring(other_reader, writer, silent, other_writer, left)
            )

    async def _bring(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        silent: asyncio.Event,
        other: asyncio.StreamWriter,
        left: int | None,
    ) -> None:
        """Pass etcd's bytes on, and no more than are left."""
        if left is None:
            return await _pump(reader, writer, silent)
        while left and (data := await reader.read(min(left, 65536))):
            left -= len(data)
            writer.write(data)
            await writer.drain()
        self.cuts += not left
        writer.transport.abort()
        other.transport.abort()
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event) -> None:
    while data := await reader.read(65536):
        if not silent.is_set():
            writer.write(data)
            await writer.drain()
    if not silent.is_set():
        writer.close()


@contextlib.asynccontextmanager
async def proxy(endpoint: str) -> AsyncIterator[tuple[Proxy, config.Etcd]]:
    """A proxy before an etcd, and the place it makes of it."""
    host, port = endpoint.rsplit(":", 1)
    made = Proxy(host, int(port))
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made, config.Etcd(endpoints=(f"127.0.0.1:{made.port}",))
    finally:
        made.cut()
        server.close()
