"""What a crowd costs a worker, and whether a good client is still served: `python -m tests.bench.crowd [--short]`.

Memory per idle connection, plain after EHLO and after STARTTLS; then 10,000 idle clients and 300 slow ones of
each kind at once (trickled commands, trickled data, never reading, stalled TLS) while a good client sends
mail after mail. Ends with an error when a mail of it is not answered 250; its times are shown, not judged.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from mx.listener import raise_file_limit
from syncd.layers import NextHop
from tests.bench.node import Running, node
from tests.bench.peers import smtp_sink

KIB = 1024
AT_ONCE = 50
"""Connections that are being opened at a time."""
SPARE_FILES = 500

Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def anonymous_kib(pid: int) -> int:
    """Memory of a process that is its own (RssAnon); shared pages do not grow with connections."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


class Crowd:
    """Clients of one worker, held open until the end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._held: list[Opened] = []
        self._trickling: set[asyncio.Task[None]] = set()

    async def open(self, count: int, begin: Callable[[Opened], Awaitable[None]], network: int) -> None:
        """Open so many from 127.0.0.`network`, and begin each."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with gate, asyncio.timeout(60):
                opened = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(f"127.0.0.{network}", 0))
                await begin(opened)
                self._held.append(opened)

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(one())

    def trickle(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Send one byte a second of this, for ever."""

        async def drip() -> None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                while True:
                    for byte in data:
                        writer.write(bytes((byte,)))
                        await asyncio.sleep(1)

        task = asyncio.create_task(drip())
        self._trickling.add(task)
        task.add_done_callback(self._trickling.discard)

    async def close(self) -> None:
        """Everybody leaves."""
        for task in self._trickling:
            task.cancel()
        for _, writer in self._held:
            writer.transport.abort()
        self._held.clear()


async def idle(opened: Opened) -> None:
    """EHLO, and nothing more."""
    reader, writer = opened
    await reader.readline()
    writer.write(b"EHLO client.bench\r\n")
    while (await reader.readline())[3:4] == b"-":
        pass


async def idle_over_tls(opened: Opened) -> None:
    """EHLO, STARTTLS, EHLO."""
    await idle(opened)
    reader, writer = opened
    writer.write(b"STARTTLS\r\n")
    await reader.readline()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    await writer.start_tls(context)
    writer.write(b"EHLO client.bench\r\n")
    while (await reader.readline())[3:4] == b"-":
        pass


async def stalled_tls(opened: Opened) -> None:
    """STARTTLS, and the handshake never begins."""
    await idle(opened)
    opened[1].write(b"STARTTLS\r\n")


async def never_reading(opened: Opened) -> None:
    """Many commands, no reply read."""
    opened[1].write(b"EHLO client.bench\r\n" + b"HELP\r\n" * 250)


async def amid_data(opened: Opened) -> None:
    """Up to DATA."""
    await idle(opened)
    reader, writer = opened
    writer.write(b"MAIL FROM:<ann@sender.bench>\r\nRCPT TO:<user@d7.bench>\r\nDATA\r\n")
    while not (await reader.readline()).startswith(b"354"):
        pass


async def one_mail(port: int) -> float:
    """Seconds that a good client's mail takes from connecting to its last reply. Raises AssertionError."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.200", 0))
    async with asyncio.timeout(30):
        await idle((reader, writer))
        writer.write(b"MAIL FROM:<ann@sender.bench>\r\nRCPT TO:<user@d7.bench>\r\nDATA\r\n")
        for code in (b"250", b"250", b"354"):
            reply = await reader.readline()
            assert reply.startswith(code), reply
        writer.write(b"From: <ann@sender.bench>\r\nSubject: good\r\n\r\nhello\r\n.\r\n")
        reply = await reader.readline()
    assert reply.startswith(b"250"), reply
    writer.close()
    return time.monotonic() - began


async def memory(running: Running, count: int, begin: Callable[[Opened], Awaitable[None]]) -> float:
    """KiB that each of so many idle clients costs the worker."""
    crowd, pid = Crowd(running.port), running.pids[-1]
    await crowd.open(50, begin, 2)  # what the first ones load is not theirs
    before = anonymous_kib(pid)
    await crowd.open(count, begin, 3)
    await asyncio.sleep(1)
    after = anonymous_kib(pid)
    await crowd.close()
    return (after - before) / count


async def crowded(running: Running, idle_count: int, slow: int, mails: int) -> list[float]:
    """Seconds of each mail of the good client amid the crowd."""
    crowd = Crowd(running.port)
    await crowd.open(idle_count, idle, 4)

    async def trickled_commands(opened: Opened) -> None:
        crowd.trickle(opened[1], b"NOOP\r\n")

    async def trickled_data(opened: Opened) -> None:
        await amid_data(opened)
        crowd.trickle(opened[1], b"x" * 70 + b"\r\n")

    for network, begin in enumerate((trickled_commands, trickled_data, never_reading, stalled_tls), 5):
        await crowd.open(slow, begin, network)
    try:
        return [await one_mail(running.port) for _ in range(mails)]
    finally:
        await crowd.close()


async def _run(running: Running, *, short: bool) -> str:
    room = raise_file_limit() - SPARE_FILES
    plain, tls, slow, mails = (200, 50, 10, 10) if short else (min(10_000, room), 1500, 300, 200)
    lines = [f"memory per idle connection, {plain} plain: {await memory(running, plain, idle):.1f} KiB"]
    lines += [f"after STARTTLS, {tls}: {await memory(running, tls, idle_over_tls):.1f} KiB"]
    took = sorted(await crowded(running, max(100, min(plain, room - 4 * slow)), slow, mails))
    p95 = took[int(len(took) * 0.95)]
    lines.append(
        f"{plain} idle and {slow} slow ones of each kind: all {len(took)} mails of the good client answered, "
        f"median {took[len(took) // 2] * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms, slowest {took[-1] * 1000:.0f} ms"
    )
    return "\n".join(lines)


def main() -> None:
    """Run it and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a small crowd: that it runs")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="mxf", dir="/tmp"))
    directory.chmod(0o755)
    try:
        with smtp_sink() as sink, node(directory / "node", NextHop("127.0.0.1", sink)) as running:
            print(asyncio.run(_run(running, short=arguments.short)), f"({os.cpu_count()} cores)")
    except LookupError as missing:
        print(f"skipped: {missing} is not installed")
        sys.exit(0 if arguments.short else 1)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
