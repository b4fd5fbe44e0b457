"""Spool processes of nodes and a receiver as the processes they are, with certificates of one installation."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec

from control.ca import RECEIVER, Authority, node_uri
from control.local.configs import tls_files, tls_table, toml
from syncd import config, keys
from syncd.lastgood import DIRECTORY, Writer
from syncd.layers import Member, canonical
from syncd.published import element, sealed
from syncd.spool.ranges import Positions
from syncd.spool.record import Kind, Outcome, RecipientResult, Record
from tests.servers import free_port
from tests.syncd.running import ROOT, Program, until

ULID = "01JDGZ{:020d}"
"""Ids of records by a number; as long as real ones."""


def record(number: int, body: bytes = b"", kind: Kind = Kind.KEPT) -> Record:
    """A record of one refused mail."""
    to = RecipientResult(0, "a@example.test", "example.test", "acc1", Outcome.KEPT, reason="content")
    return Record(
        ULID.format(number), kind, "mx1", time.time(), "192.0.2.1", recipients=(to,), subject=f"mail {number}",
        body_bytes=len(body),
    )  # fmt: skip


def body_of(number: int, size: int = 3000) -> bytes:
    """A body that names its record."""
    return (f"Subject: mail {number}\r\n\r\n".encode() + b"x" * size)[: max(size, 40)]


class Installation:
    """Certificates of one installation below a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._authority = Authority.make()

    def tls(self, name: str, uri: str | None = None) -> config.Tls:
        """Certificate of a node, or what `uri` says."""
        place = self.directory / "tls" / name
        if not place.exists():
            self._authority.write_pair(place, name, uri=node_uri(name) if uri is None else uri, hosts=("127.0.0.1",))
        return tls_files(place)

    def receiver_tls(self) -> config.Tls:
        """The receiver's."""
        return self.tls("receiver", RECEIVER)


@dataclass
class Quarantine(Program):
    """A receiver whose store is a file (`tests.syncd.spool.quarantine`)."""

    directory: Path = field(default_factory=Path)
    port: int = 0

    def listens(self) -> bool:
        """Whether its port takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stored(self) -> list[dict[str, Any]]:
        """What is stored and not withdrawn, in the order of storing."""
        path = self.directory / "stored"
        lines = [msgspec.json.decode(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []
        gone: dict[str, Positions] = {}
        for line in lines:
            gone.setdefault(line["epoch"], Positions()).update(line.get("withdrawn", ()))
        return [line for line in lines if "position" in line and line["position"] not in gone[line["epoch"]]]

    def ids(self, kind: Kind = Kind.KEPT) -> list[str]:
        """Ids of the stored records of a kind."""
        return [each["id"] for each in self.stored() if each["kind"] == kind]

    def refuse_to_store(self, away: bool = True) -> None:
        """As if PostgreSQL were away, or back."""
        mark = self.directory / "away"
        mark.touch() if away else mark.unlink()


def quarantine(installation: Installation, port: int | None = None) -> Quarantine:
    """A receiver process, not started yet."""
    directory = installation.directory / "quarantine"
    directory.mkdir(exist_ok=True)
    installation.receiver_tls()
    port = port or free_port()
    command = [sys.executable, "-m", "tests.syncd.spool.quarantine", str(directory), str(port)]
    command.append(str(installation.directory / "tls" / "receiver"))
    return Quarantine(command, directory / "log", directory=directory, port=port)


@dataclass
class SpoolProcess(Program):
    """A node's spool process."""

    logger: subprocess.Popen[bytes] | None = None
    directory: Path = field(default_factory=Path)
    node: config.Node | None = None
    metrics_port: int = 0

    def start(self) -> None:
        """Start it with its log behind a pipe, as under a supervisor: a process that cannot write files still logs."""
        with self.log.open("ab") as log:
            self.logger = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
        pipe = self.logger.stdin
        assert pipe
        self.process = subprocess.Popen(self.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        pipe.close()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End it, and wait for its last words."""
        code = super().kill(number)
        if self.logger:
            self.logger.wait(20)
            self.logger = None
        return code

    @property
    def socket(self) -> str:
        """Where its workers connect."""
        assert self.node
        return self.node.spool.socket

    @property
    def journal(self) -> Path:
        """Its journals' directory."""
        return self.directory / "journal"

    def get(self, path: str) -> httpx.Response | None:
        """An answer of its exporter; None when there is none."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.metrics_port}{path}", trust_env=False, timeout=2)
        except httpx.HTTPError:
            return None

    def is_ready(self) -> bool:
        """Whether it says so."""
        answer = self.get("/ready")
        return answer is not None and answer.status_code == 200

    def metric(self, name: str) -> float:
        """One sample of its metrics; -1 when it does not answer."""
        answer = self.get("/metrics")
        lines = answer.text.splitlines() if answer else []
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " ")), -1.0)

    async def ready(self) -> None:
        """Wait until it is."""
        await until(self.is_ready, why=f"{self.directory.name} to be ready")


def spool(installation: Installation, name: str, receiver_port: int, **settings: Any) -> SpoolProcess:
    """A node's spool process, not started yet."""
    home = installation.directory / name
    home.mkdir()
    port = free_port()
    node = {
        "name": name,
        "state_dir": str(home),
        "panel_url": "http://panel.test",
        "memcached_socket": "",
        "resolver": [],
        "smtp": {"host": "127.0.0.1", "port": 1, "hostname": "mx.test"},
        "spool": {
            "socket": str(home / "socket"),
            "journal_dir": str(home / "journal"),
            "host": "127.0.0.1",
            "port": free_port(),
            "receiver_host": "127.0.0.1",
            "receiver_port": receiver_port,
            **settings,
        },
        "etcd": {"endpoints": []},
        "tls": tls_table(installation.tls(name)),
    }
    file = home / "node.toml"
    file.write_text(toml(node))
    command = [sys.executable, "-m", "mx", "spool", "--config", str(file), "--metrics-port", str(port)]
    loaded = config.load(file, config.Node)
    return SpoolProcess(command, home / "log", directory=home, node=loaded, metrics_port=port)


def tell_members(processes: Sequence[SpoolProcess]) -> None:
    """Write the members into every node's last-known-good store, as follow does."""
    nodes = [process.node for process in processes if process.node]
    members = [Member(node.name, "127.0.0.1", node.spool.port, "127.0.0.1", 1) for node in nodes]
    for process in processes:
        with Writer(process.directory / DIRECTORY) as store, store.change() as change:
            for member in members:
                key, value = keys.member(member.node), sealed(canonical(member))
                change.put(key, value, element(key, value))
            change.status = store.status
