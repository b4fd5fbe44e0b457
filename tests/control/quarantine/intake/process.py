"""The receiver's process for tests."""

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from control.local.configs import tls_table, toml
from syncd.config import Tls
from tests.servers import free_port
from tests.syncd.running import Program

WITHIN_S = 20.0


class Process(Program):
    """A receiver with its configuration."""

    def __init__(self, directory: Path, database: str, tls: Tls) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.open_packs = directory / "open"
        document = {
            "panel_url": "", "panel_host": "", "panel_port": 1, "database": database, "ca_cert": "", "ca_key": "",
            "receiver_host": "127.0.0.1", "receiver_port": self.port,
            "receiver_journal_dir": str(directory / "journal"),
            "packs": (directory / "store").as_uri(), "open_packs_dir": str(self.open_packs), "prometheus_url": "",
            "secret_file": "", "etcd": {"endpoints": []}, "tls": tls_table(tls),
        }  # fmt: skip
        (directory / "journal").mkdir()
        (directory / "control.toml").write_text(toml(document))
        command = [sys.executable, "-m", "control", "receiver", "--config", str(directory / "control.toml")]
        super().__init__([*command, "--metrics-port", str(self.metrics_port)], directory / "log")

    def says(self, page: str = "ready") -> tuple[int, str]:
        """Status and text of a page of its exporter; (0, "") while there is none."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.metrics_port}/{page}", trust_env=False, timeout=5)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def metric(self, name: str) -> float:
        """One sample of its metrics; -1 when it does not answer."""
        lines = self.says("metrics")[1].splitlines()
        found = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{"))]
        return sum(found) if found else -1.0

    def listens(self) -> bool:
        """Whether nodes can connect."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def until(self, check: Callable[[], bool]) -> None:
        """Wait until it is so; fails with what it says of itself, and its last words."""
        deadline = time.monotonic() + WITHIN_S
        while not check():
            assert self.process
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, (self.says(), self.log.read_text()[-2000:])
            time.sleep(0.01)
