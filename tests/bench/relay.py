"""CPU a relayed mail costs this process and the next hop: our client beside aiosmtplib, in one run.

    python -m tests.bench.relay [--rounds 3]

The next hop is Debian's smtp-sink, which announces PIPELINING and keeps nothing. "one" makes a connection a
mail, "many" keeps connections open. Ten mails are under way at a time, on uvloop, as in a worker. The two
clients take turns, so that both meet the same machine; the median of the rounds is shown.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiosmtplib
import uvloop

from syncd.layers import NextHop
from syncd.nexthop import Bounds, Pool, deliver, stuffed
from tests.servers import Service, free_port

UNDER_WAY = 10
SIZES = {"2 KB": (2_000, 3000), "50 KB": (50_000, 1500), "1 MB": (1_000_000, 150)}
"""Name of a size -> (bytes, mails a run)."""
COLUMNS = [(size, way) for size in SIZES for way in ("one", "many")]
TICK_S = 1 / os.sysconf("SC_CLK_TCK")

Send = Callable[[bytes], Awaitable[None]]
Client = Callable[[NextHop, bool], contextlib.AbstractAsyncContextManager[Callable[[], Send]]]


@dataclass(frozen=True)
class Cost:
    """CPU µs a mail."""

    ours: float
    sink: float


Costs = dict[str, dict[tuple[str, str], list[Cost]]]
"""By client and column, one a round."""


def message(size: int) -> bytes:
    """A mail of that many bytes, in lines of 76, none of which begins with a dot."""
    line = b"The quick brown fox jumps over the lazy dog and runs into the far woods 0123.\r\n"
    head = b"From: ann@sender.test\r\nTo: bob@hop.test\r\nSubject: bench\r\n\r\n"
    return (head + line * (size // len(line) + 1))[: size - 2] + b"\r\n"


@contextlib.asynccontextmanager
async def ours(hop: NextHop, many: bool) -> AsyncIterator[Callable[[], Send]]:
    """The product's client; its pool's usual bounds, or a connection a mail."""
    async with Pool(Bounds() if many else Bounds(idle_per_hop=0)) as pool:

        async def send(mail: bytes) -> None:
            answers = await deliver(
                [hop],
                "ann@sender.test",
                ["bob@hop.test"],
                (b"Received: by us\r\n", mail),
                hostname="mx1.test",
                pool=pool,
            )
            assert answers["bob@hop.test"].taken, answers

        yield lambda: send


@contextlib.asynccontextmanager
async def by_sendmail(hop: NextHop, many: bool) -> AsyncIterator[Callable[[], Send]]:
    """aiosmtplib as it is usually used: its `sendmail`."""

    async def exchange(client: aiosmtplib.SMTP, mail: bytes) -> None:
        refused, _ = await client.sendmail("ann@sender.test", ["bob@hop.test"], b"Received: by us\r\n" + mail)
        assert not refused

    async with _over_aiosmtplib(hop, many, exchange) as sender:
        yield sender


@contextlib.asynccontextmanager
async def by_commands(hop: NextHop, many: bool) -> AsyncIterator[Callable[[], Send]]:
    """aiosmtplib command by command, past its `sendmail`: the message written in our pieces, not joined."""

    async def exchange(client: aiosmtplib.SMTP, mail: bytes) -> None:
        for words in ((b"MAIL", b"FROM:<ann@sender.test>"), (b"RCPT", b"TO:<bob@hop.test>"), (b"DATA",)):
            assert (await client.execute_command(*words)).code in (250, 354)
        assert client.protocol
        for piece in stuffed((b"Received: by us\r\n", mail)):
            client.protocol.write(bytes(piece))
        assert (await client.protocol.read_response(timeout=20)).code == 250

    async with _over_aiosmtplib(hop, many, exchange) as sender:
        yield sender


@contextlib.asynccontextmanager
async def _over_aiosmtplib(
    hop: NextHop, many: bool, exchange: Callable[[aiosmtplib.SMTP, bytes], Awaitable[None]]
) -> AsyncIterator[Callable[[], Send]]:
    clients: list[aiosmtplib.SMTP] = []

    def sender() -> Send:
        client = aiosmtplib.SMTP(hostname=hop.host, port=hop.port, local_hostname="mx1.test", start_tls=False)
        clients.append(client)

        async def send(mail: bytes) -> None:
            if not client.is_connected:
                await client.connect()
                await client.ehlo()
            await exchange(client, mail)
            if not many:
                await client.quit()

        return send

    yield sender
    for client in clients:
        client.close()


CLIENTS: dict[str, Client] = {"aiosmtplib, sendmail": by_sendmail, "aiosmtplib, commands": by_commands, "ours": ours}


async def run(client: Client, sink: "Sink", hop: NextHop, size: str, way: str) -> Cost:
    """Send one column's mails."""
    size_bytes, mails = SIZES[size]
    mail = message(size_bytes)
    left = iter(range(mails))
    async with client(hop, way == "many") as sender:

        async def work(send: Send) -> None:
            for _ in left:
                await send(mail)

        before, sink_before = time.process_time(), cpu_s(sink.pid)
        async with asyncio.TaskGroup() as group:
            for _ in range(UNDER_WAY):
                group.create_task(work(sender()))
        return Cost((time.process_time() - before) / mails * 1e6, (cpu_s(sink.pid) - sink_before) / mails * 1e6)


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


class Sink(Service):
    """Debian's smtp-sink: takes every mail and keeps none; dies with us whatever happens."""

    name = "smtp-sink"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()
        found = shutil.which("smtp-sink", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        self._program = found or sys.exit("smtp-sink is not installed: apt-get install postfix (it need not run)")

    def command(self) -> list[str]:
        as_whom = ["-u", "nobody"] if os.geteuid() == 0 else []
        return [self._program, *as_whom, f"127.0.0.1:{self.port}", "1000"]

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
        except OSError:
            return False
        return True


async def bench(sink: Sink, rounds: int) -> Costs:
    """Costs of every client and column, one a round."""
    costs: Costs = {name: {column: [] for column in COLUMNS} for name in CLIENTS}
    hop = NextHop("127.0.0.1", sink.port)
    gc.freeze()  # as a worker does
    for _ in range(rounds):
        for column in COLUMNS:
            for name, client in CLIENTS.items():
                costs[name][column].append(await run(client, sink, hop, *column))
    return costs


def table(costs: Costs) -> str:
    """The figures as a table in Markdown."""
    rows = [["CPU µs a mail", *(f"{size} {way}" for size, way in COLUMNS)], ["---"] * (len(COLUMNS) + 1)]
    spent = {
        (whose, name): [median(getattr(cost, whose) for cost in by_column[column]) for column in COLUMNS]
        for name, by_column in costs.items()
        for whose in ("ours", "sink")
    }
    for name in CLIENTS:
        rows.append([name, *(f"{us:.0f}" for us in spent["ours", name])])
    for name in CLIENTS:
        if name != "ours":
            ratios = zip(spent["ours", name], spent["ours", "ours"], strict=True)
            rows.append([f"**{name} : ours**", *(f"**{theirs / mine:.1f}**" for theirs, mine in ratios)])
    for name in CLIENTS:
        rows.append([f"smtp-sink, fed by {name}", *(f"{us:.0f}" for us in spent["sink", name])])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sink = Sink(Path(directory))
        sink.start()
        try:
            costs = runner.run(bench(sink, rounds))
        finally:
            sink.stop()
    print(table(costs))
    print(f"\nLoad average when it ended: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")


if __name__ == "__main__":
    main()
