"""Followers and publishers as the processes they are, and a database that changes as the control plane changes it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from control.local.configs import tls_table, toml
from control.store import layers
from syncd import config, keys
from syncd.lastgood import DIRECTORY, NotHere, Reader
from syncd.layers import DomainLayer, NextHop, canonical
from syncd.receipts import Receipt
from syncd.status import Status
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 15.0
T = TypeVar("T")
DEAD = config.Tls("", "", "")


async def until(check: Callable[[], T], within_s: float = WITHIN_S, why: str = "") -> T:
    """The first true answer of `check`; fails with the last one when the time is up."""
    deadline = time.monotonic() + within_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {why or check} said {found!r}"
        await asyncio.sleep(0.005)
    return found


@dataclass
class Program:
    """A process of ours, with its log."""

    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it may not be ready yet."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ
            )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End it; returns how it ended."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(20)
        self.process = None
        return code

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log lines of one event."""
        lines = (msgspec.json.decode(line) for line in self.log.read_bytes().splitlines() if line.startswith(b"{"))
        return [line for line in lines if line.get("event") == name]

    def anon_kib(self) -> int:
        """Memory of its own (RssAnon), in KiB."""
        assert self.process
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


@dataclass
class Follow(Program):
    """A node's follow process and its store as a worker sees it."""

    directory: Path = field(default_factory=Path)
    node: config.Node | None = None
    metrics_port: int = 0
    reader: Reader | None = None

    def status(self) -> Status:
        """How far its store is; a fresh status while there is none."""
        assert self.reader
        try:
            with self.reader.reading() as view:
                return view.status()
        except NotHere:
            return Status()

    def value(self, key: str) -> bytes | None:
        """What it serves of a key."""
        assert self.reader
        with self.reader.reading() as view:
            return view.value(key)

    async def reaches(self, revision: int, within_s: float = WITHIN_S) -> Status:
        """Wait until it is live at a revision, and agrees with what was published."""
        await until(lambda: self._is_at(revision), within_s, f"live at {revision}, is {self.status()}")
        return self.status()

    def _is_at(self, revision: int) -> bool:
        status = self.status()
        return status.state == "live" and status.revision >= revision and status.agrees

    def metric(self, name: str) -> float:
        """One sample of its metrics."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", trust_env=False).text
        return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + " "))


def follow(directory: Path, place: config.Etcd, name: str = "mx1", memcached: str = "", smtp_port: int = 1) -> Follow:
    """A node's follow process, not started yet."""
    home = directory / name
    home.mkdir()
    node = {
        "name": name,
        "state_dir": str(home),
        "panel_url": "http://panel.test",
        "memcached_socket": memcached or str(home / "no-memcached"),
        "resolver": [],
        "smtp": {"host": "127.0.0.1", "port": smtp_port, "hostname": "mx.test"},
        "spool": {
            "socket": "",
            "journal_dir": "",
            "host": "",
            "port": 1,
            "receiver_host": "",
            "receiver_port": 1,
        },
        "etcd": _etcd(place),
        "tls": tls_table(DEAD),
    }
    file = home / "node.toml"
    file.write_text(toml(node))
    port = free_port()
    command = [sys.executable, "-m", "mx", "follow", "--config", str(file), "--metrics-port", str(port)]
    return Follow(
        command, home / "log", directory=home, node=config.load(file, config.Node), metrics_port=port,
        reader=Reader(home / DIRECTORY),
    )  # fmt: skip


def publisher(directory: Path, place: config.Etcd, dsn: str, panel_port: int = 1) -> Program:
    """A publisher, not started yet; `panel_port` makes its identity."""
    settings = {
        "panel_url": "http://panel.test",
        "panel_host": "127.0.0.1",
        "panel_port": panel_port,
        "database": dsn,
        "etcd": _etcd(place),
        "tls": tls_table(DEAD),
        "ca_cert": "",
        "ca_key": "",
        "receiver_host": "",
        "receiver_port": 1,
        "receiver_journal_dir": "",
        "packs": "",
        "prometheus_url": "",
        "secret_file": "",
    }
    file = directory / f"control{panel_port}.toml"
    file.write_text(toml(settings))
    command = [sys.executable, "-m", "control", "publisher", "--config", str(file), "--metrics-port", str(free_port())]
    return Program(command, directory / f"publisher{panel_port}.log")


def _etcd(place: config.Etcd) -> dict[str, Any]:
    return {"endpoints": list(place.endpoints), **({"tls": tls_table(place.tls)} if place.tls else {})}


@dataclass
class Database:
    """The control plane's database, changed by the control plane's own statements."""

    pool: Any

    async def commit(self, *changes: tuple[str, bytes | None], bulk: bool = False) -> int:
        """Make these changes in one transaction, each a revision of its own; returns the last."""
        revision = 0
        async with self.pool.acquire() as connection, connection.transaction():
            for key, value in changes:
                _, revision = await layers.next_revision(connection)
                await layers.publish(connection, revision, key, value, bulk=bulk)
        return revision

    async def keep_shards(self, bodies: dict[str, bytes]) -> None:
        """Store shards, as a list's change does before it commits."""
        async with self.pool.acquire() as connection:
            await layers.keep_shards(connection, bodies)


def domain(name: str, settings: dict[str, dict[str, Any]] | None = None, **more: Any) -> tuple[str, bytes]:
    """Key and canonical bytes of a domain's layer."""
    hop = NextHop(host="127.0.0.1", port=2525)
    layer = DomainLayer(domain=name, account="acc1", next_hops=(hop,), settings=settings or {}, **more)
    return keys.domain(name), canonical(layer)


def receipt(value: bytes) -> Receipt:
    """A receipt as it stands in etcd."""
    return msgspec.json.decode(value, type=Receipt)
