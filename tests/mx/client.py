"""A small SMTP client for tests that says exactly what it is told."""

import asyncio
import socket
import struct
from collections.abc import Callable
from types import TracebackType


def mail(text: str) -> bytes:
    """A small well-formed mail whose subject and body hold `text`."""
    head = f"From: Ann <ann@sender.test>\r\nTo: a@strict.test\r\nSubject: {text}\r\n"
    return f"{head}Message-ID: <1@sender.test>\r\n\r\n{text}\r\n".encode()


class Client:
    """One connection to 127.0.0.1:`port`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._greeted = False

    async def __aenter__(self) -> "Client":
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.writer.close()

    async def open(self) -> None:
        """Connect and read the banner."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.banner = await self.reply()

    async def reply(self) -> str:
        """The last line of the next reply, "" at the end of the connection."""
        while True:
            async with asyncio.timeout(15):
                line = (await self.reader.readline()).decode("ascii")
            if line[3:4] != "-":
                return line.rstrip("\r\n")

    async def say(self, command: str | bytes) -> str:
        """Send one line and return the last line of its reply."""
        self.write((command.encode() if isinstance(command, str) else command) + b"\r\n")
        return await self.reply()

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    async def hello(self) -> None:
        """EHLO, once."""
        if not self._greeted:
            assert (await self.say("EHLO client.test")).startswith("250")
            self._greeted = True

    async def send(self, message: bytes, *, to: list[str], sender: str = "ann@sender.test") -> str:
        """One mail; the reply after the dot. Fails when anything before was refused."""
        await self.hello()
        assert (await self.say(f"MAIL FROM:<{sender}>")).startswith("250")
        for recipient in to:
            assert (await self.say(f"RCPT TO:<{recipient}>")).startswith("250"), recipient
        assert (await self.say("DATA")).startswith("354")
        self.write(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return await self.reply()

    def half_close(self) -> None:
        """Send no more, but listen."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Hang up with a TCP reset."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def rest(self) -> list[str]:
        """Every line until the server closes."""
        async with asyncio.timeout(15):
            return (await self.reader.read()).decode("ascii").splitlines()


async def until(true: Callable[[], object], within_s: float = 5.0) -> None:
    """Wait for a condition; TimeoutError when it does not come true."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - what is waited for is outside: it has no event to wait on
            await asyncio.sleep(0.01)
