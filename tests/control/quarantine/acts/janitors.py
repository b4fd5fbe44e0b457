"""The janitor as a process on its own configuration file, started, killed and started again by tests."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from control.quarantine import packs
from control.quarantine.packs import Packs
from syncd.config import Control, Etcd, Tls
from tests.servers import START_WITHIN_S, free_port

ROOT = Path(__file__).resolve().parents[4]


def settings_for(database: str, directory: Path) -> Control:
    """Configuration of a control plane of which only the janitor runs."""
    (directory / "secret").write_bytes(bytes(range(32)))
    none = str(directory / "none")
    return Control(
        panel_url="http://127.0.0.1:9",
        panel_host="127.0.0.1",
        panel_port=0,
        database=database,
        etcd=Etcd(("127.0.0.1:9",)),
        tls=Tls(none, none, none),
        ca_cert=none,
        ca_key=none,
        receiver_host="127.0.0.1",
        receiver_port=0,
        receiver_journal_dir=str(directory / "journal"),
        packs=(directory / "store").as_uri(),
        prometheus_url="http://127.0.0.1:9",
        secret_file=str(directory / "secret"),
    )


class JanitorProcess:
    """`python -m control janitor`."""

    def __init__(self, database: str, directory: Path) -> None:
        self.settings = settings_for(database, directory)
        self.packs: Packs = packs.open(self.settings)
        self._config, self._log = directory / "control.toml", directory / "janitor.log"
        self._config.write_text("\n".join(_toml(msgspec.to_builtins(self.settings))))
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until it is on duty."""
        self._port = free_port()
        command = [sys.executable, "-m", "control", "janitor", "--config", str(self._config)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--metrics-port", str(self._port)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + START_WITHIN_S
        while ready and self.trouble():
            assert time.monotonic() < deadline, f"{self.trouble()}\n{self.log[-3000:]}"
            assert self._process.poll() is None, self.log[-3000:]
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(9)

    def stop(self) -> int:
        """End it in its own orderly way; its exit status."""
        return self._end(15)

    def trouble(self) -> str:
        """What `/ready` says; "" when it is."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/ready", timeout=5):
                return ""
        except urllib.error.HTTPError as error:
            return error.read().decode() or "not ready"
        except OSError as error:
            return str(error)

    def metric(self, line: str) -> float:
        """A sample as it is exported, by its name with labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(each.rsplit(" ", 1)[1]) for each in lines if each.startswith(line + " "))

    @property
    def log(self) -> str:
        """What it printed so far."""
        return self._log.read_text(errors="replace")

    def events(self, word: str) -> list[dict[str, Any]]:
        """Its log lines with this event."""
        found = (json.loads(line) for line in self.log.splitlines() if line.startswith("{"))
        return [each for each in found if each.get("event") == word]

    def exit_status(self) -> int:
        """Of a janitor that ends by itself."""
        assert self._process is not None
        return self._process.wait(30)

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            os.kill(process.pid, number)
        return process.wait(30)


def _toml(values: dict[str, Any], table: str = "") -> Iterator[str]:
    """Lines of TOML; strings, numbers and lists of them are written as in JSON."""
    if table:
        yield f"[{table}]"
    yield from (
        f"{name} = {json.dumps(each)}" for name, each in values.items() if not isinstance(each, dict | type(None))
    )
    for name, each in values.items():
        if isinstance(each, dict):
            yield from _toml(each, f"{table}.{name}" if table else name)
