"""A private etcd, a database with the schema, and processes that end with their test."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest

from syncd import config
from tests.servers import Etcd
from tests.syncd.running import Database, Program

P = TypeVar("P", bound=Program)


@pytest.fixture
def place(etcd: Etcd) -> config.Etcd:
    """Where the session's etcd is, empty."""
    return config.Etcd(endpoints=(etcd.endpoint,))


@pytest.fixture
async def store(database: str) -> AsyncIterator[Database]:
    """The control plane's database, freshly migrated."""
    async with asyncpg.create_pool(database, min_size=1, max_size=3) as pool:
        yield Database(pool)


@pytest.fixture
def here() -> Iterator[Path]:
    """A directory with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="mxf", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def run() -> Iterator[Callable[[P], P]]:
    """Starts a program and ends it with the test: `run(follow(…))`."""
    started: list[Program] = []

    def start(program: P) -> P:
        program.start()
        started.append(program)
        return program

    yield start
    for program in started:
        program.kill()
