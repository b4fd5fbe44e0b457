"""The API while PostgreSQL is gone, comes back, or accepts and says nothing: an answer in time, never a hang."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from control import api, auth
from control.app import Services, bare_app
from control.receipts import Receipts
from control.store import pool as pools
from tests.control.api.conftest import Door, settings_for
from tests.services import Postgres


def _door(pool: Any, directory: Path, token: str = "") -> Door:
    app = bare_app(Services(settings_for("", directory), pool, Receipts()))
    api.register(app)
    return Door(app, token or auth.make_token())


async def test_it_is_made_without_a_database_and_says_so(tmp_path: Path) -> None:
    pool = await pools.create("postgresql://nobody@127.0.0.1:9/none")
    door = _door(pool, tmp_path)
    reply = await door.call("GET", "/domains")
    assert (reply.status, reply.headers["Content-Type"]) == (503, "application/problem+json")
    here, elsewhere = {"client": ("127.0.0.1", 1)}, {"client": ("192.0.2.1", 1)}
    discovery = await door.app.test_client().get("/internal/sd/prometheus", scope_base=here)
    assert discovery.status_code == 503, "an answer without the nodes would drop them from Prometheus"
    foreign = await door.app.test_client().get("/internal/sd/prometheus", scope_base=elsewhere)
    assert foreign.status_code == 404
    assert (await door.app.test_client().get("/api/v1/openapi.json")).status_code == 200


def test_it_goes_on_when_the_database_is_back(postgres: Postgres, database: str, tmp_path: Path) -> None:
    """The server is stopped and started from outside the loop: it ends with the thread that started it."""
    with asyncio.Runner() as runner:
        pool = runner.run(pools.create(database))
        door = _door(pool, tmp_path)
        runner.run(auth.add_token(pool, None, "test", door.token))
        assert runner.run(door.call("GET", "/domains")).status == 200
        postgres.stop()
        try:
            assert runner.run(door.call("GET", "/domains")).status == 503
        finally:
            postgres.start()
        assert runner.run(door.call("GET", "/domains")).status == 200
        pool.terminate()


async def test_a_database_that_says_nothing_is_given_up(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is frozen before the first connection: the server's kernel still accepts, and nobody answers."""
    monkeypatch.setattr(pools, "CONNECT_WITHIN_S", 0.5)
    pool = await pools.create(postgres.dsn())
    door, began = _door(pool, tmp_path), time.monotonic()
    postgres.send_signal(signal.SIGSTOP)
    try:
        reply = await door.call("GET", "/domains")
    finally:
        postgres.send_signal(signal.SIGCONT)
        pool.terminate()
    assert reply.status == 503
    assert time.monotonic() - began < 10
