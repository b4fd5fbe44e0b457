"""Real PostgreSQL, etcd and memcached for tests: private, on free ports, ended by pid whatever happens.

Fixtures: `postgres` (one server a session), `database` and `empty_database` (DSN of a fresh one a test);
`etcd` (one plain server a session, emptied before each test) and `make_etcd` (factory, with or without
mTLS, for tests that kill or freeze it); `memcached` and `make_memcached` (unix socket, fresh each test).
A missing program skips by name; with REQUIRE_ALL=1 in the environment it fails.
"""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest

from control.ca import Authority
from control.store import migrate
from syncd.config import Tls
from tests.servers import Etcd, Memcached, Postgres, Service, free_port, program

__all__ = ["Etcd", "Memcached", "Postgres", "Service", "free_port", "make_tls", "program"]

S = TypeVar("S", bound=Service)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for the whole session."""
    yield from _running(Postgres)


@pytest.fixture
def database(postgres: Postgres, _template: str) -> Iterator[str]:
    """DSN of a fresh, migrated database without rows; dropped afterwards, open connections or not."""
    yield from _database(postgres, _template)


@pytest.fixture
def empty_database(postgres: Postgres) -> Iterator[str]:
    """DSN of a database without any schema; dropped afterwards."""
    yield from _database(postgres, "template0")


@pytest.fixture(scope="session")
def _template(postgres: Postgres) -> str:
    """Name of a migrated database to copy: running all migrations for each test would take most of its time."""
    postgres.run("CREATE DATABASE migrated TEMPLATE template0")
    asyncio.run(_migrate(postgres.dsn("migrated")))
    return "migrated"


async def _migrate(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await migrate.apply(connection)
    finally:
        await connection.close()


def _database(postgres: Postgres, template: str) -> Iterator[str]:
    name = f"test_{secrets.token_hex(6)}"
    postgres.run(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield postgres.dsn(name)
    finally:
        postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def _etcd_server() -> Iterator[Etcd]:
    yield from _running(Etcd)


@pytest.fixture
def etcd(_etcd_server: Etcd) -> Etcd:
    """A plain etcd without keys. Do not kill this one: `make_etcd` gives one of your own."""
    _etcd_server.wipe()
    return _etcd_server


@pytest.fixture
def make_etcd() -> Iterator[Callable[..., Etcd]]:
    """Factory of etcds of the test's own: `make_etcd()`, or `make_etcd(mtls=True)` with certificates in `.tls`."""
    started: list[Etcd] = []

    def make(*, mtls: bool = False, arguments: Sequence[str] = ()) -> Etcd:
        directory = _directory()
        tls = make_tls(directory / "tls") if mtls else None
        started.append(Etcd(directory, tls, arguments))
        started[-1].start()
        return started[-1]

    try:
        yield make
    finally:
        for server in started:
            _end(server)


@pytest.fixture
def memcached(make_memcached: Callable[..., Memcached]) -> Memcached:
    """An empty memcached of the test's own."""
    return make_memcached()


@pytest.fixture
def make_memcached() -> Iterator[Callable[..., Memcached]]:
    """Factory of memcacheds of the test's own."""
    started: list[Memcached] = []

    def make(*, megabytes: int = 64) -> Memcached:
        started.append(Memcached(_directory(), megabytes))
        started[-1].start()
        return started[-1]

    try:
        yield make
    finally:
        for server in started:
            _end(server)


def make_tls(directory: Path, name: str = "localhost", *, uri: str = "", authority: Authority | None = None) -> Tls:
    """Certificate files for a server or client on 127.0.0.1, by `authority` or one made for it."""
    (authority or Authority.make()).write_pair(directory, name, uri=uri, hosts=("localhost", "127.0.0.1"))
    return Tls(*(str(directory / file) for file in ("ca.pem", "cert.pem", "key.pem")))


def _running(kind: type[S]) -> Iterator[S]:
    server = kind(_directory())
    try:
        server.start()
        yield server
    finally:
        _end(server)


def _end(server: Service) -> None:
    server.stop()
    shutil.rmtree(server.directory, ignore_errors=True)


def _directory() -> Path:
    """A short path (unix sockets take 107 bytes) that other users may traverse."""
    path = Path(tempfile.mkdtemp(prefix="mxf", dir="/tmp"))
    path.chmod(0o755)
    return path
