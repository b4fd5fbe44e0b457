"""Real PostgreSQL, etcd and memcached as test objects: started, killed, frozen, restarted, by pid."""

import asyncio
import base64
import ctypes
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from control.local import programs
from syncd.config import Tls

START_WITHIN_S = 30.0
STOP_WITHIN_S = 10.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def program(name: str) -> str:
    """Path of an installed program; skips by name when it is missing, fails when everything is required."""
    try:
        return programs.find(name)
    except programs.Missing as error:
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Service:
    """One real server process; `start` returns when it answers."""

    name = "service"
    user: programs.User | None = None
    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The command line."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it serves already."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """Pid of the running server."""
        assert self._process, f"{self.name} is not running"
        return self._process.pid

    @property
    def log(self) -> str:
        """What it printed so far."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it answers."""
        ids = {"user": self.user.uid, "group": self.user.gid, "extra_groups": []} if self.user else {}
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
                preexec_fn=_die_with_parent,
                **ids,  # type: ignore[call-overload]
            )
        self.wait_until_answers()

    def wait_until_answers(self) -> None:
        """Wait until it serves; fails with its last words."""
        deadline = time.monotonic() + START_WITHIN_S
        while not self.answers():
            if self._process and self._process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self._process.returncode}:\n{self.log[-2000:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name} does not answer:\n{self.log[-2000:]}")
            time.sleep(0.02)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the server: SIGSTOP freezes it, SIGCONT thaws it."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in its own orderly way."""
        self._end(self.stop_signal)

    def restart(self) -> None:
        """Kill it and start it again on the same port and data."""
        self.kill()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
            os.kill(process.pid, signal.SIGCONT)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_WITHIN_S)


class Postgres(Service):
    """A PostgreSQL server with the superuser `mxfleet`, on TCP, without a password."""

    name = "postgres"
    stop_signal = signal.SIGQUIT
    """Its "immediate" shutdown: waits for no client, but frees its shared memory, as a kill would not."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()
        self.user = programs.user_for("postgres")
        self._server = program("postgres")
        self._initialise(program("initdb"))

    def _initialise(self, initdb: str) -> None:
        self.data = self.directory / "data"
        self.data.mkdir(mode=0o700)
        ids = {}
        if self.user:
            os.chown(self.data, self.user.uid, self.user.gid)
            ids = {"user": self.user.uid, "group": self.user.gid, "extra_groups": []}
        made = subprocess.run(
            [initdb, "-D", str(self.data), "-U", "mxfleet", "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust", "-N"],
            capture_output=True,
            cwd="/",
            check=False,
            **ids,  # type: ignore[call-overload]
        )
        assert made.returncode == 0, made.stderr.decode()

    def command(self) -> list[str]:
        settings = [f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=60"]
        settings.append("fsync=off")  # what these tests kill is processes, and never the kernel that holds their writes
        return [self._server, "-D", str(self.data), *(part for setting in settings for part in ("-c", setting))]

    def answers(self) -> bool:
        return asyncio.run(self._answers())

    def dsn(self, database: str = "postgres") -> str:
        """The address of one of its databases."""
        return f"postgresql://mxfleet@127.0.0.1:{self.port}/{database}"

    def run(self, statement: str) -> None:
        """Run one statement as superuser in the maintenance database."""
        asyncio.run(self._run(statement))

    async def _run(self, statement: str) -> None:
        connection = await asyncpg.connect(self.dsn(), timeout=10)
        try:
            await connection.execute(statement, timeout=30)
        finally:
            await connection.close(timeout=5)

    async def _answers(self) -> bool:
        try:
            await self._run("SELECT 1")
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        return True


class Etcd(Service):
    """A single etcd; with `tls` it demands client certificates of that authority."""

    name = "etcd"

    def __init__(self, directory: Path, tls: Tls | None = None, arguments: Sequence[str] = ()) -> None:
        super().__init__(directory)
        self.tls, self._arguments = tls, arguments
        self.port, self._peer_port = free_port(), free_port()
        self.server = program("etcd")

    @property
    def endpoint(self) -> str:
        """Where it listens, as "host:port"."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        scheme = "https" if self.tls else "http"
        client, peer = f"{scheme}://{self.endpoint}", f"http://127.0.0.1:{self._peer_port}"
        command = [
            self.server,
            "--name=test",
            f"--data-dir={self.directory / 'data'}",
            f"--initial-cluster=test={peer}",
        ]
        command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        if self.tls:
            command += [f"--trusted-ca-file={self.tls.ca}", f"--cert-file={self.tls.cert}"]
            command += [f"--key-file={self.tls.key}", "--client-cert-auth"]
        return [*command, *self._arguments]

    def answers(self) -> bool:
        try:
            return self._call("kv/range", {"key": _base64(b"\0")}).status_code == 200
        except httpx.HTTPError:
            return False

    def wipe(self) -> None:
        """Delete every key."""
        self._call("kv/deleterange", {"key": _base64(b"\0"), "range_end": _base64(b"\0")}).raise_for_status()

    def ask(self, verb: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Ask its JSON gateway, which our own client has no part in; None when it refuses."""
        answer = self._call(verb, body)
        return dict(answer.json()) if answer.is_success else None

    @staticmethod
    def text(value: str) -> str:
        """A key or value as the gateway takes it."""
        return _base64(value.encode())

    def _call(self, verb: str, body: Mapping[str, Any]) -> httpx.Response:
        context: ssl.SSLContext | bool = False
        if self.tls:
            context = ssl.create_default_context(cafile=self.tls.ca)
            context.load_cert_chain(self.tls.cert, self.tls.key)
        with httpx.Client(verify=context, timeout=10, trust_env=False) as client:
            return client.post(f"{'https' if self.tls else 'http'}://{self.endpoint}/v3/{verb}", json=body)


class Memcached(Service):
    """A memcached on a unix socket, 64 MB, items up to 1 MB."""

    name = "memcached"

    def __init__(self, directory: Path, megabytes: int = 64) -> None:
        super().__init__(directory)
        self._megabytes = megabytes
        self.user = programs.user_for("memcache")
        self._server = program("memcached")
        if self.user:
            os.chown(directory, self.user.uid, self.user.gid)

    @property
    def socket(self) -> str:
        """Path of its unix socket."""
        return str(self.directory / "socket")

    def command(self) -> list[str]:
        command = [self._server, "-s", self.socket, "-a", "0700", "-m", str(self._megabytes), "-U", "0"]
        return command if self._megabytes > 2 else [*command, "-I", "512k"]  # an item may take half of the memory

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            try:
                probe.connect(self.socket)
                probe.sendall(b"version\r\n")
                return probe.recv(100).startswith(b"VERSION")
            except OSError:
                return False


def _base64(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _die_with_parent() -> None:
    """Runs in the child: a test session that is killed leaves nothing behind."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
