"""Certificates of nodes and receiver end and are renewed while mail is kept: nothing that was secured is lost."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from control import ca
from syncd.spool import serve
from syncd.spool.client import NotSecured, SpoolClient
from syncd.spool.identity import RECEIVER, node_uri
from syncd.spool.link import Link
from syncd.spool.node import Spool
from syncd.spool.receive import Receiver
from tests.servers import free_port
from tests.syncd.running import until
from tests.syncd.spool.parts import ULID, Installation, Quarantine, SpoolProcess, body_of, record, spool, tell_members
from tests.syncd.spool.quarantine import FileStores
from tests.syncd.spool.test_way import load, until_secured

SHORT_DAYS = 3 / 86_400
"""Three seconds: until an expiry is awaited."""
NAMES = {"mx1": node_uri("mx1"), "mx2": node_uri("mx2"), "receiver": RECEIVER}


class Fleet:
    """Two nodes and a receiver in this process, over real TLS."""

    def __init__(self, installation: Installation) -> None:
        self.installation, self.directory = installation, installation.directory / "quarantine"
        self.directory.mkdir()
        self.quarantine = Quarantine([], self.directory / "log", directory=self.directory, port=free_port())
        tls = installation.receiver_tls()
        stores = FileStores(self.directory)
        self.receiver = Receiver(self.directory / "journal", stores, tls, "127.0.0.1", self.quarantine.port)
        self.places: list[SpoolProcess] = [spool(installation, name, self.quarantine.port) for name in ("mx1", "mx2")]
        tell_members(self.places)
        self.spools = [Spool(place.node) for place in self.places if place.node]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[SpoolClient]:
        """All of it, with a worker of the first node."""
        tasks = [asyncio.create_task(each.run()) for each in (self.receiver, *self.spools)]
        try:
            await until(lambda: all(link.is_up for link in self._links()) and len(self._links()) >= 4, why="links up")
            async with SpoolClient(self.places[0].socket) as client:
                yield client
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def renew(self) -> None:
        """New keys and certificates in the old ones' places."""
        for name, uri in NAMES.items():
            self.installation._authority.write_pair(self._files(name), name, uri=uri, hosts=("127.0.0.1",))

    def cut(self) -> None:
        """Break every connection between hosts."""
        for link in self._links():
            if link._wire:
                link._wire.abort()

    def serials(self) -> set[int]:
        """Of the certificates that the other ends of the links show."""
        wires = [link._wire for link in self._links()]
        return {int(wire.writer.get_extra_info("peercert")["serialNumber"], 16) for wire in wires if wire}

    def on_disk(self) -> set[int]:
        """Serial numbers of the files."""
        return {self.certificate(name).serial_number for name in NAMES}

    def certificate(self, name: str) -> x509.Certificate:
        """What a file holds."""
        return x509.load_pem_x509_certificate((self._files(name) / "cert.pem").read_bytes())

    def _files(self, name: str) -> Path:
        return self.installation.directory / "tls" / name

    def _links(self) -> list[Link]:
        return [link for each in self.spools for link in each._current._links.values()]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewed files are looked for often."""
    monkeypatch.setattr(serve, "RENEW_S", 0.05)


async def stored_once(fleet: Fleet, secured: set[int]) -> None:
    """Everything that was secured is there, and nothing twice."""
    wanted = {ULID.format(number) for number in secured}
    await until(lambda: wanted <= set(fleet.quarantine.ids()), why="all secured records to be stored")
    assert len(fleet.quarantine.ids()) == len(set(fleet.quarantine.ids()))


@pytest.mark.usefixtures("often")
async def test_certificates_are_renewed_under_load(installation: Installation) -> None:
    fleet = Fleet(installation)
    secured, numbers, stop = set[int](), itertools.count(), asyncio.Event()
    async with fleet.running() as client:
        loads = [asyncio.create_task(load(client, secured, numbers, stop)) for _ in range(8)]
        for _ in range(3):
            fleet.renew()
            async with asyncio.timeout(20):
                while not fleet.serials() or not fleet.serials() <= fleet.on_disk():
                    before = len(secured)
                    fleet.cut()  # a connection keeps the certificate that it began with
                    await until(lambda before=before: len(secured) > before + 20, why="records to be secured")
        stop.set()
        await asyncio.gather(*loads)
        await stored_once(fleet, secured)


@pytest.mark.usefixtures("often")
async def test_what_has_expired_connects_no_more_and_what_is_renewed_does(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ca, "CERT_DAYS", SHORT_DAYS)
    fleet = Fleet(installation)
    monkeypatch.undo()
    monkeypatch.setattr(serve, "RENEW_S", 0.05)
    async with fleet.running() as client:
        await until_secured(client, 1)
        ends = fleet.certificate("receiver").not_valid_after_utc
        await until(lambda: ca.datetime.now(ca.UTC) > ends + ca.timedelta(seconds=1), why="the certificates to end")
        await client.secure(record(2), body_of(2))  # a connection that was made before goes on
        fleet.cut()
        with pytest.raises(NotSecured):
            await client.secure(record(3), body_of(3))
        fleet.renew()
        await until_secured(client, 4)
        await stored_once(fleet, {1, 2, 4})
        await until(lambda: all(not each.records for each in fleet.spools), why="everything to be released")
    assert ULID.format(3) not in fleet.quarantine.ids()
