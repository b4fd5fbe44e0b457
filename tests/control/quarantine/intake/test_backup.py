"""Backup and restore as the commands they are, while nodes offer their spools again: nothing missing, nothing twice."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from ulid import ULID

from control import backup
from control.quarantine import packs
from control.quarantine.ingest import Ingest
from control.quarantine.pack_writer import PackWriter
from control.quarantine.session import Session
from control.store.migrate import files
from syncd.config import Control
from tests.control.quarantine.acts.janitors import ROOT, _toml, settings_for
from tests.control.quarantine.intake.conftest import Intake, prepare
from tests.control.quarantine.intake.held import Journal
from tests.servers import Postgres


@dataclass
class Host:
    """A control host: a database, packs, a configuration file."""

    settings: Control
    config: Path

    @classmethod
    def make(cls, database: str, directory: Path) -> "Host":
        """With directories of its own."""
        directory.mkdir()
        made = cls(settings_for(database, directory), directory / "control.toml")
        made.config.write_text("\n".join(_toml(msgspec.to_builtins(made.settings))))
        return made

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m control … --config …`."""
        command = [sys.executable, "-m", "control", *arguments, "--config", str(self.config)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    def works(self, *arguments: str) -> str:
        """The same, when it has to work; what it printed."""
        done = self.command(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def spare(postgres: Postgres) -> Iterator[str]:
    """Another empty database: the new host's."""
    name = f"spare_{ULID()}".lower()
    postgres.run(f"CREATE DATABASE {name} TEMPLATE template0")
    yield postgres.dsn(name)
    postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def host(database: str, tmp_path: Path) -> Host:
    """The host that is going to be lost."""
    return Host.make(database, tmp_path / "lost")


@pytest.fixture
def new(spare: str, tmp_path: Path) -> Host:
    """The one that takes its place."""
    return Host.make(spare, tmp_path / "new")


async def _receiver(host: Host, journal: Journal) -> AsyncIterator[Intake]:
    """What a receiver stores with, on this host."""
    place = packs.open(host.settings)
    writer, session = PackWriter(place), Session(host.settings.database)
    try:
        async with asyncpg.create_pool(host.settings.database, min_size=0, max_size=2) as pool:
            yield Intake(Ingest(session, writer), session, place, pool, journal)
    finally:
        session.close()
        writer.close()


async def test_restored_to_an_hour_ago_nothing_is_missing_or_double(host: Host, new: Host, tmp_path: Path) -> None:
    await prepare(host.settings.database)
    journal, place = Journal(tmp_path / "spool"), str(tmp_path / "offsite")
    held = journal.mails(30)
    async for before in _receiver(host, journal):
        await before.ingest.store(held[:12])
        await before.pool.execute(
            "insert into jobs (id, account_id, act, item, created_by) values ('J', 'A', 'release', 'x.0', 'me')"
        )
        await asyncio.to_thread(host.works, "backup", "--to", place)
        await before.ingest.store(held[12:20])  # of the hour that is lost; the node has not heard that it is stored
    said = await asyncio.to_thread(new.works, "restore", "--from", place)
    assert "1 deliveries may have been made since" in said
    async for after in _receiver(new, journal):
        assert await after.count("quarantine") == 12
        await after.ingest.store(held[6:26])
        await after.ingest.store(held)
        assert await after.count("quarantine") == 30
        assert await after.count("quarantine", "true") == await after.count("mail_records")
        for row in await after.pool.fetch("select * from quarantine"):
            assert await after.body(row)
        await after.figures_add_up()
        assert await after.pool.fetchval("select state from jobs") == "unknown"
        assert await after.pool.fetchval("select generation from revision_counter") == 2
        applied = await after.count("migrations")
        assert applied == len(files())


async def test_sealed_packs_are_copied_once_and_open_ones_each_time(host: Host, new: Host, tmp_path: Path) -> None:
    await prepare(host.settings.database)
    journal, place = Journal(tmp_path / "spool"), str(tmp_path / "offsite")
    async for before in _receiver(host, journal):
        await before.ingest.store(journal.mails(3))
        await asyncio.to_thread(host.works, "backup", "--to", place)
    async for before in _receiver(host, journal):  # its start seals what the one before left open
        await before.ingest.store(journal.mails(2))
        for path in packs.open_directory(host.settings).glob("*.pack"):
            if path.stat().st_size:
                name = packs.of_local(path.name)
                assert name
                await packs.open(host.settings).objects.put(name, path)
                path.unlink()
        assert ", 0 packs" not in await asyncio.to_thread(host.works, "backup", "--to", place)
        assert ", 0 packs" in await asyncio.to_thread(host.works, "backup", "--to", place)
    await asyncio.to_thread(new.works, "restore", "--from", place)
    async for after in _receiver(new, journal):
        rows = await after.pool.fetch("select * from quarantine")
        assert len([await after.body(row) for row in rows]) == 5


async def test_a_restore_says_what_stands_in_its_way(host: Host, new: Host, tmp_path: Path) -> None:
    place = tmp_path / "offsite"
    assert "there is no whole backup" in (await _fails(new, "restore", "--from", str(place))).lower()
    await prepare(host.settings.database)
    await asyncio.to_thread(host.works, "backup", "--to", str(place))
    assert "not empty" in await _fails(host, "restore", "--from", str(place))
    assert "no whole backup of before 2001" in await _fails(new, "restore", "--from", str(place), "--at", "2001-01-01")
    connection = await asyncpg.connect(new.settings.database, server_settings={"application_name": "mxfleet janitor"})
    assert "stop its processes" in await _fails(new, "restore", "--from", str(place))
    await connection.close()
    (made,) = place.glob("backup-*")
    whole = (made / backup.DUMP).read_bytes()
    (made / backup.DUMP).write_bytes(whole[:-100])
    assert "damaged" in await _fails(new, "restore", "--from", str(place))
    (made / backup.DUMP).write_bytes(whole)
    await asyncio.to_thread(new.works, "restore", "--from", str(place))
    await asyncio.to_thread(new.works, "restore", "--from", str(place), "--replace")
    (made / backup.MANIFEST).unlink()
    assert "no whole backup" in await _fails(new, "restore", "--from", str(place), "--replace")


async def _fails(host: Host, *arguments: str) -> str:
    done = await asyncio.to_thread(host.command, *arguments)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("dsn", "wanted"),
    [
        (
            "postgresql://a%40b:p%2Fw@db.test:6432/mx?sslmode=require",
            ("db.test", "6432", "a@b", "p/w", "mx", "require"),
        ),
        ("postgresql:///mx?host=/run/postgresql", ("/run/postgresql", None, None, None, "mx", None)),
    ],
)
def test_a_dsn_as_libpqs_variables(dsn: str, wanted: tuple[Any, ...]) -> None:
    names = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE")
    found = backup.environment(dsn)
    assert tuple(found.get(name) for name in names) == wanted
