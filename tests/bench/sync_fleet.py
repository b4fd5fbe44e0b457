"""The fleet of the settings bench: real PostgreSQL, etcd and memcached, panel, publisher and nodes as processes.

A control plane with so many domains in its database, and nodes of a follow process and two workers each.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx

from control.ca import Authority
from control.local.configs import tls_table, toml
from control.store.layers import json_text
from syncd import config, keys
from syncd.layers import DomainLayer, NextHop, canonical, digest
from tests.servers import Etcd, Memcached, Postgres, Service, free_port
from tests.syncd.running import DEAD, ROOT, Follow, Program, follow

HOPS = 9
"""Next hops of a domain, which make its value some 1.2 KB."""
WITHIN_S = 900.0
S = TypeVar("S", bound=Service)


@dataclass
class Fleet:
    """What runs. `workers` by node; `tokens` as bootstrap made them."""

    directory: Path
    domains: int
    postgres: Postgres
    etcd: Etcd
    memcacheds: list[Memcached]
    tokens: dict[str, str]
    panel: Program
    publisher: Program
    panel_url: str
    follows: list[Follow] = field(default_factory=list)
    workers: list[Program] = field(default_factory=list)
    http: httpx.Client | None = None

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the API as the operator, over a connection that stays open."""
        self.http = self.http or httpx.Client(trust_env=False, timeout=120)
        headers = {"Authorization": f"Bearer {self.tokens['operator_token']}"}
        answer = self.http.request(method, f"{self.panel_url}/api/v1{path}", json=body, headers=headers)
        answer.raise_for_status()
        return answer.json()

    def name(self, number: int) -> str:
        """A domain's name."""
        return f"d{number % self.domains:06}.test"

    @property
    def revision(self) -> int:
        """The newest one."""
        return int(self.call("GET", "/nodes")["revision"])


def until(true: Callable[[], object], what: str, within_s: float = WITHIN_S) -> None:
    """Wait for something that tells nobody. Raises TimeoutError."""
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within_s:.0f} s for {what}")
        time.sleep(0.02)


@contextlib.contextmanager
def fleet(directory: Path, domains: int, nodes: int = 2) -> Iterator[Fleet]:
    """Everything but the nodes' processes, which `add_node` starts: the database is full, etcd still empty."""
    postgres, etcd = _service(Postgres, directory / "postgres"), _service(Etcd, directory / "etcd")
    memcacheds = [_service(Memcached, directory / f"memcached{number}") for number in range(nodes)]
    services: list[Service] = [postgres, etcd, *memcacheds]
    made: Fleet | None = None
    try:
        for each in services:
            each.start()
        file, url = _control(directory, postgres.dsn(), etcd.endpoint)
        tokens = _prepare(file)
        asyncio.run(_fill(postgres.dsn(), tokens["account"], domains, nodes))
        panel, publisher = (_program(directory, name, file) for name in ("panel", "publisher"))
        made = Fleet(directory, domains, postgres, etcd, memcacheds, tokens, panel, publisher, url)
        panel.start()
        until(lambda: panel.events("listening") and _answers(url), "the panel", 60)
        yield made
    finally:
        if made:
            for program in (*made.workers, *made.follows, made.publisher, made.panel):
                program.kill()
        for each in services:
            each.stop()


def add_node(made: Fleet, number: int) -> Follow:
    """Start a node's follow process."""
    place = config.Etcd(endpoints=(made.etcd.endpoint,))
    node = follow(made.directory, place, f"mx{number + 1}", made.memcacheds[number].socket, smtp_port=free_port())
    made.follows.append(node)
    node.start()
    return node


def add_workers(made: Fleet, node: Follow, count: int) -> list[Program]:
    """Start the node's workers; they serve when this returns."""
    file = str(node.directory / "node.toml")
    started = []
    for number in range(1, count + 1):
        arguments = ["--config", file, "--metrics-port", str(free_port()), "--number", str(number)]
        worker = Program([sys.executable, "-m", "mx", "worker", *arguments], node.directory / f"worker{number}.log")
        worker.start()
        started.append(worker)
    made.workers += started
    until(lambda: all(worker.events("serving") for worker in started), "workers", 60)
    return started


def _service(kind: type[S], directory: Path) -> S:
    directory.mkdir()
    directory.chmod(0o755)
    return kind(directory)


def _program(directory: Path, name: str, file: Path) -> Program:
    command = [sys.executable, "-m", "control", name, "--config", str(file), "--metrics-port", str(free_port())]
    return Program(command, directory / f"{name}.log")


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/api/v1/nodes", trust_env=False).status_code == 401
    return False


def _control(directory: Path, dsn: str, etcd: str) -> tuple[Path, str]:
    Authority.make().save(directory / "ca.pem", directory / "ca.key")
    (directory / "secret").write_bytes(os.urandom(32))
    (directory / "packs").mkdir()
    port = free_port()
    file = directory / "control.toml"
    file.write_text(
        toml(
            {
                "panel_url": f"http://127.0.0.1:{port}",
                "panel_host": "127.0.0.1",
                "panel_port": port,
                "database": dsn,
                "etcd": {"endpoints": [etcd]},
                "tls": tls_table(DEAD),
                "ca_cert": str(directory / "ca.pem"),
                "ca_key": str(directory / "ca.key"),
                "receiver_host": "127.0.0.1",
                "receiver_port": 1,
                "receiver_journal_dir": str(directory),
                "packs": (directory / "packs").as_uri(),
                "prometheus_url": "http://127.0.0.1:1",
                "secret_file": str(directory / "secret"),
            }
        )
    )
    return file, f"http://127.0.0.1:{port}"


def _prepare(file: Path) -> dict[str, str]:
    for command in (["-m", "control", "migrate"], ["-m", "control.bootstrap"]):
        done = subprocess.run(
            [sys.executable, *command, "--config", str(file)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    tokens: dict[str, str] = json.loads(done.stdout)
    return tokens


async def _fill(dsn: str, account: str, domains: int, nodes: int) -> None:
    """Domains as the control plane would have written them, by COPY; and the members."""
    hops = tuple(
        NextHop(f"mail-exchanger-number-{number}.customer.test", 25, "required", number) for number in range(HOPS)
    )
    connection = await asyncpg.connect(dsn)
    last = await connection.fetchval("select revision from revision_counter")
    places, layers, rows = [], [], []
    for number in range(domains):
        name, revision = f"d{number:06}.test", last + number + 1
        settings = {"scoring": {"refuse_at": 8.0, "tag": f"[{number}]"}, "retention": {"days": 31 + number % 60}}
        value = canonical(DomainLayer(name, account, hops, settings))
        places.append((name, account, json_text(hops)))
        layers.append(("domain", name, json_text(settings), revision, digest(value)))
        rows.append((revision, keys.domain(name), value))
    try:
        async with connection.transaction():
            await _copy(connection, "domains", ["name", "account_id", "next_hops"], places)
            await _copy(connection, "layers", ["scope", "name", "settings", "revision", "hash"], layers)
            await _copy(connection, "outbox", ["revision", "key", "value"], rows)
            await connection.execute("update revision_counter set revision = $1", last + domains)
            for number in range(nodes):
                await connection.execute(
                    "insert into nodes (name, spool_host, spool_port, smtp_host, smtp_port)"
                    " values ($1, '127.0.0.1', 1, '127.0.0.1', 1)",
                    f"mx{number + 1}",
                )
        await connection.execute("analyze")
    finally:
        await connection.close()


async def _copy(connection: Any, table: str, columns: list[str], rows: list[Any]) -> None:
    await connection.copy_records_to_table(table, columns=columns, records=rows, timeout=WITHIN_S)
