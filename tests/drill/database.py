"""The drill's faults of PostgreSQL, done as an operator would do them: through its own connection."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from control.local.layout import Layout
from control.local.supervise import Supervisor
from syncd import config
from tests.e2e.fleet import Fleet, eventually

WITHIN_S = 10.0


@contextmanager
def read_only(fleet: Fleet) -> Iterator[None]:
    """Every new transaction is read-only, as on a standby."""
    _do(fleet, "alter system set default_transaction_read_only = on", "select pg_reload_conf()", *_ALL_AWAY)
    yield
    # This session is read-only too until it says otherwise.
    _do(
        fleet,
        "set default_transaction_read_only = off",
        "alter system reset default_transaction_read_only",
        "select pg_reload_conf()",
    )


_ALL_AWAY = ("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname <> ''",)


@contextmanager
def connections_killed(fleet: Fleet) -> Iterator[None]:
    """Every connection ends in mid-sentence."""
    _do(fleet, *_ALL_AWAY)
    yield


@contextmanager
def stopped(fleet: Fleet) -> Iterator[None]:
    """An immediate shutdown (SIGQUIT); the supervisor starts it again, which replays its log."""
    pid = int(fleet.demo["pids"]["postgres"])
    os.kill(pid, signal.SIGQUIT)
    yield
    eventually(lambda: _answers(fleet), "PostgreSQL to answer", within_s=60)


@contextmanager
def away(fleet: Fleet) -> Iterator[None]:
    """Stopped through the supervisor, so that it stays away until it is started again."""
    supervisor = Supervisor(Layout(fleet.path.parent, 0))
    supervisor.stop("postgres")
    try:
        yield
    finally:
        supervisor.ensure("postgres")
        eventually(lambda: _answers(fleet), "PostgreSQL to answer", within_s=60)


def _answers(fleet: Fleet) -> bool:
    try:
        _do(fleet, "select 1")
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    return True


def _do(fleet: Fleet, *statements: str) -> None:
    asyncio.run(_execute(dsn(fleet.path.parent), statements))


def dsn(var: Path) -> str:
    """The address of a cluster's database."""
    return config.load(var / "control.toml", config.Control).database


async def _execute(database: str, statements: tuple[str, ...]) -> Any:
    connection = await asyncpg.connect(database, timeout=WITHIN_S, command_timeout=WITHIN_S)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close(timeout=WITHIN_S)
