"""Serving: shared port, graceful end, certificates renewed in place, metrics."""

import asyncio
import contextlib
import os
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mx import listener
from mx.certificate import Certificate
from mx.ledger import Ledger
from mx.services import Services
from tests.certificates import self_signed
from tests.mx.client import Client, mail
from tests.mx.neighbours import FILTERS, Known, MemoryPolicies, MemorySpool, NoDns, PlainParser, node_config, sections
from tests.nexthops import Mailbox, real

Serving = tuple[asyncio.Event, "asyncio.Task[None]"]


def free_port() -> int:
    with contextlib.closing(listener.bind("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def serving(
    mailbox: Mailbox, port: int, metrics_port: int
) -> AsyncIterator[tuple[asyncio.Event, asyncio.Task[None]]]:
    """`listener.serve` on a port until the event is set."""
    async with real(mailbox) as hop:
        spool = MemorySpool()
        policies = MemoryPolicies([Known("strict.test", (hop,), sections())])
        services = Services(node_config(port=port), policies, spool, PlainParser(), NoDns(), Ledger(spool), FILTERS)
        stop = asyncio.Event()
        task = asyncio.create_task(listener.serve(services, metrics_port=metrics_port, number=1, stop=stop))
        try:
            yield stop, task
        finally:
            stop.set()
            await task


async def connected(port: int) -> Client:
    async with asyncio.timeout(5):
        while True:
            client = Client(port)
            try:
                await client.open()
                return client
            except ConnectionError:
                await asyncio.sleep(0.01)


async def test_two_workers_share_a_port_and_one_may_leave() -> None:
    mailbox, port = Mailbox(), free_port()
    async with serving(mailbox, port, 0) as (stop, task), serving(mailbox, port, 0):
        (await connected(port)).writer.close()
        stop.set()
        await task
        for _ in range(20):
            async with Client(port) as client:
                assert client.banner.startswith("220")


async def test_the_end_is_graceful() -> None:
    mailbox, port = Mailbox(), free_port()
    async with serving(mailbox, port, 0) as (stop, task):
        idle, busy = await connected(port), await connected(port)
        await busy.hello()
        await busy.say("MAIL FROM:<ann@sender.test>")
        await busy.say("RCPT TO:<a@strict.test>")
        await busy.say("DATA")
        stop.set()
        assert await idle.reply() == "421 4.3.2 Shutting down, try again later"
        busy.write(mail("hello") + b".\r\n")
        assert (await busy.reply()).startswith("250 2.0.0 Ok:")
        assert await busy.reply() == "421 4.3.2 Shutting down, try again later"
        async with asyncio.timeout(5):
            await task
        with pytest.raises(ConnectionError):
            await Client(port).open()
    assert len(mailbox.mails) == 1


async def test_metrics_tell_of_the_mails() -> None:
    port, metrics_port = free_port(), free_port()
    async with serving(Mailbox(), port, metrics_port):
        async with await connected(port) as client:
            await client.send(mail("hello"), to=["a@strict.test"])
        url = f"http://127.0.0.1:{metrics_port}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read().decode())
    assert "mx_ledger_drift 0.0" in text
    assert 'mx_ledger_recipients_total{outcome="delivered"}' in text


async def test_a_renewed_certificate_is_taken_and_a_broken_one_is_not(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path, "mx1.test")
    certificate = Certificate(str(cert), str(key))
    first = certificate.context()
    assert first is not None
    assert not certificate.look()
    self_signed(tmp_path, "mx1.test")
    os.utime(cert, (2e9, 2e9))
    assert certificate.look()
    assert certificate.context() is not first
    second = certificate.context()
    cert.write_text("broken")
    os.utime(cert, (2.1e9, 2.1e9))
    assert not certificate.look()
    assert certificate.context() is second


def test_without_a_certificate_there_is_no_tls() -> None:
    assert Certificate("", "").context() is None


async def test_a_proxy_that_is_no_network_is_said_at_the_start() -> None:
    spool = MemorySpool()
    node = node_config(port=0, proxies=("192.0.2.0/33",))
    services = Services(node, MemoryPolicies([]), spool, PlainParser(), NoDns(), Ledger(spool), FILTERS)
    with pytest.raises(ValueError, match=r"192\.0\.2\.0/33"):
        await listener.serve(services, metrics_port=0, number=1, stop=asyncio.Event())
