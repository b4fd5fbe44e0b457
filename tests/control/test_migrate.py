"""Migrations on a real database: once each, whole or not at all, one at a time, and never a file that was changed."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from control.local.configs import tls_table, toml
from control.store import migrate
from syncd.config import Tls
from tests.servers import free_port
from tests.services import Postgres

ROOT = Path(__file__).resolve().parents[2]
TABLES = {"accounts", "domains", "layers", "quarantine", "messages", "later", "stored_ranges", "migrations"}


@pytest.fixture
async def connection(empty_database: str) -> AsyncIterator[Any]:
    made = await asyncpg.connect(empty_database)
    yield made
    await made.close()


def write(directory: Path, *texts: str) -> Path:
    for number, text in enumerate(texts, 1):
        (directory / f"{number:04}_step.sql").write_text(text)
    return directory


async def tables(connection: Any) -> set[str]:
    rows = await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
    return {row["tablename"] for row in rows}


async def test_our_own_files_make_the_schema_once(connection: Any) -> None:
    assert [each.name for each in await migrate.plan(connection)] == [each.name for each in migrate.files()]
    assert await tables(connection) == set()
    first = await migrate.apply(connection)
    assert first
    assert await tables(connection) >= TABLES
    assert await migrate.apply(connection) == []
    assert await migrate.plan(connection) == []


async def test_todays_partitions_are_there_from_the_start(connection: Any) -> None:
    await migrate.apply(connection)
    row = await connection.fetchrow(
        "insert into mail_records values (now(), 'x', '') returning tableoid::regclass::text as name, received_at"
    )
    assert row["name"] == f"mail_records_{row['received_at']:%Y%m%d}"


async def test_a_file_that_fails_leaves_nothing_and_is_run_when_it_was_mended(connection: Any, tmp_path: Path) -> None:
    write(tmp_path, "create table a (x integer);", "create table b (x integer); insert into a values ('no number');")
    with pytest.raises(migrate.Unmigratable, match=r"0002_step\.sql does not run on this database"):
        await migrate.apply(connection, tmp_path)
    assert await tables(connection) == {"a", "migrations"}
    write(tmp_path, "create table a (x integer);", "create table b (x integer);")
    assert [each.number for each in await migrate.apply(connection, tmp_path)] == [2]


async def test_an_applied_file_that_was_changed_is_named_with_what_to_do(connection: Any, tmp_path: Path) -> None:
    await migrate.apply(connection, write(tmp_path, "create table a (x integer);"))
    with pytest.raises(migrate.Unmigratable, match=r"0001_step.sql was changed .* put its old text back"):
        await migrate.apply(connection, write(tmp_path, "create table a (x bigint);", "create table c (x integer);"))
    assert await tables(connection) == {"a", "migrations"}


async def test_a_database_of_a_newer_checkout_is_left_alone(connection: Any, tmp_path: Path) -> None:
    await migrate.apply(connection, write(tmp_path, "create table a (x integer);", "create table b (x integer);"))
    (tmp_path / "0002_step.sql").unlink()
    with pytest.raises(migrate.Unmigratable, match=r"0002_step.sql applied, which this checkout does not know"):
        await migrate.plan(connection, tmp_path)


@pytest.mark.parametrize("name", ["0002_late.sql", "first.sql", "1_short.sql"])
def test_files_out_of_place_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("select 1")
    with pytest.raises(migrate.Unmigratable, match=name):
        migrate.files(tmp_path)


async def test_many_at_once_run_each_file_once(empty_database: str, tmp_path: Path) -> None:
    write(tmp_path, "create table a (x integer);", "select pg_sleep(0.2); create table b (x integer);")

    async def one() -> int:
        connection = await asyncpg.connect(empty_database)
        try:
            return len(await migrate.apply(connection, tmp_path))
        finally:
            await connection.close()

    assert sorted(await asyncio.gather(*(one() for _ in range(5)))) == [0, 0, 0, 0, 2]


def process(directory: Path, dsn: str) -> subprocess.CompletedProcess[str]:
    none = Tls("", "", "")
    settings = {
        "panel_url": "", "panel_host": "", "panel_port": 1, "database": dsn, "ca_cert": "", "ca_key": "",
        "receiver_host": "", "receiver_port": 1, "receiver_journal_dir": "", "packs": "", "prometheus_url": "",
        "secret_file": "", "etcd": {"endpoints": []}, "tls": tls_table(none),
    }  # fmt: skip
    (directory / "control.toml").write_text(toml(settings))
    return subprocess.run(
        [sys.executable, "-m", "control", "migrate", "--config", str(directory / "control.toml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_says_what_it_did(empty_database: str, tmp_path: Path) -> None:
    first = process(tmp_path, empty_database)
    assert (first.returncode, first.stdout.splitlines()) == (0, [f"applied {each.name}" for each in migrate.files()])
    second = process(tmp_path, empty_database)
    assert (second.returncode, second.stdout) == (0, "nothing to do: the schema is up to date\n")


def test_the_command_ends_with_a_sentence_when_there_is_no_such_database(postgres: Postgres, tmp_path: Path) -> None:
    done = process(tmp_path, postgres.dsn("nosuch"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("migrate: the database of the configuration cannot be used:")
    assert len(done.stderr.splitlines()) == 1


def test_the_command_waits_for_a_server_and_says_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(migrate, "START_WITHIN_S", 0.5)
    with pytest.raises(migrate.Unmigratable, match="is PostgreSQL up"):
        asyncio.run(migrate._run(f"postgresql://mxfleet@127.0.0.1:{free_port()}/x"))
