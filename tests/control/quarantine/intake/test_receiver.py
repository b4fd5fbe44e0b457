"""The receiver as the process it is: it listens whatever is away, says what is amiss, heals, and ends when asked."""

import signal
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from control.ca import RECEIVER, Authority
from control.quarantine import packs
from control.quarantine.frames import Press
from tests.control.quarantine.intake.conftest import prepare
from tests.control.quarantine.intake.process import WITHIN_S, Process
from tests.services import Postgres, make_tls
from tests.syncd.running import Program


@pytest.fixture
def receiver(empty_database: str, tmp_path: Path) -> Iterator[Process]:
    """One that was not started yet; its database is there, without a schema."""
    made = Process(tmp_path, empty_database, make_tls(tmp_path / "tls", uri=RECEIVER, authority=Authority.make()))
    yield made
    made.kill()


async def test_it_listens_before_there_is_a_schema_and_is_ready_after(receiver: Process, empty_database: str) -> None:
    receiver.start()
    receiver.until(lambda: receiver.listens() and receiver.says()[1].startswith("mail is held, not stored: PostgreSQL"))
    assert receiver.says()[0] == 503
    assert receiver.says("live")[0] == 200
    await prepare(empty_database)
    receiver.until(lambda: receiver.says() == (200, "ok\n"))
    connection = await asyncpg.connect(empty_database)
    ahead = await connection.fetch(
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'messages'::regclass"
    )
    await connection.close()
    assert f"messages_{packs.today():%Y%m%d}" in {row["inhrelid"] for row in ahead}
    assert receiver.kill(signal.SIGTERM) == 0


def test_it_says_when_postgresql_goes_and_when_it_is_back(
    receiver: Process, postgres: Postgres, empty_database: str, migrated: None
) -> None:
    receiver.start()
    receiver.until(lambda: receiver.says() == (200, "ok\n"))
    postgres.stop()
    try:
        receiver.until(lambda: receiver.says()[0] == 503)
        assert receiver.listens()
    finally:
        postgres.start()
    receiver.until(lambda: receiver.says() == (200, "ok\n"))
    assert receiver.kill(signal.SIGTERM) == 0
    assert [event["level"] for event in receiver.events("not_storing")] == ["warning"]


@pytest.fixture
async def migrated(empty_database: str) -> None:
    """The schema, made before a test that is no coroutine."""
    await prepare(empty_database)


async def test_packs_of_an_earlier_life_are_sealed(receiver: Process, empty_database: str) -> None:
    await prepare(empty_database)
    receiver.open_packs.mkdir()
    name = f"{packs.today()}/31/01ARZ3NDEKTSV4RRFFQ69G5FAV.pack"
    entry = Press().entry("01ARZ3NDEKTSV4RRFFQ69G5FAV", b"mail")
    (receiver.open_packs / packs.local_name(name)).write_bytes(entry + b"torn")
    receiver.start()
    receiver.until(lambda: bool(receiver.events("pack_sealed")))
    store = receiver.open_packs.parent / "store"
    assert (store / name).read_bytes() == entry
    assert "control_packs_open_bytes" in receiver.says("metrics")[1]


def test_a_second_one_does_not_write_into_the_same_packs(receiver: Process) -> None:
    receiver.start()
    receiver.until(lambda: bool(receiver.says()[0]))
    second = Program(receiver.command, receiver.log.with_name("second"))
    second.start()
    assert second.process
    assert second.process.wait(WITHIN_S) == 1
    assert "another receiver writes here" in second.log.read_text()
    second.process = None
