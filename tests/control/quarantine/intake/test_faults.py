"""Ingest under faults: killed at any point, PostgreSQL cut, frozen, stopped, read-only or not migrated, a full disk.

Whatever happens, what was not stored raises NotNow, and after all of it everything is stored once.
"""

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from control.quarantine import pack_writer, session
from control.quarantine.ingest import Ingest
from control.quarantine.pack_writer import PackWriter
from control.quarantine.session import Session
from syncd.spool.record import Kind, Outcome
from syncd.spool.stream import NotNow
from tests.control.quarantine.intake.conftest import Intake, prepare
from tests.control.quarantine.intake.held import MAIL, STREAM, Journal, event, kept, result
from tests.control.quarantine.intake.storing import held_in, packs_in
from tests.servers import free_port
from tests.services import Postgres

ROOT = Path(__file__).resolve().parents[4]
RECORDS = 300
KILLS = 12


class Trap:
    """A record during whose packing something happens: a transaction is open, nothing of it is committed."""

    stream, position, body_bytes = STREAM, 10_000, len(MAIL)

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self.header = msgspec.json.encode(kept())

    def read_body(self) -> bytes:
        """Happens once."""
        act, self._act = self._act, lambda: None
        act()
        return MAIL


def fill(directory: Path, count: int) -> None:
    """Records as files, an event for every other one, and some that are no record."""
    chance = random.Random(3)
    for position in range(1, count + 1):
        record = kept() if position % 2 else event()
        header = b"garbage" if position % 50 == 0 else msgspec.json.encode(record)
        (directory / f"{position}.header").write_bytes(header)
        (directory / f"{position}.body").write_bytes(chance.randbytes(chance.randint(0, 30_000)))


@pytest.mark.timeout(180)
def test_killed_at_any_point_everything_is_stored_once(database: str, tmp_path: Path) -> None:
    asyncio.run(prepare(database))
    fill(tmp_path, RECORDS)
    chance = random.Random(11)
    ends = [_store_for(database, tmp_path, seed, chance.uniform(0, 0.06)) for seed in range(KILLS)]
    assert ends.count(-signal.SIGKILL) >= KILLS // 2, "it was killed too seldom to show anything"
    assert _store_for(database, tmp_path, KILLS, 60) == 0
    asyncio.run(_is_whole(database, tmp_path))


def _store_for(database: str, directory: Path, seed: int, seconds: float) -> int:
    """Have a process store, and kill it so long after its first commit; returns how it ended."""
    command = [sys.executable, "-m", "tests.control.quarantine.intake.storing", database, str(directory), str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        said = process.stdout.readline()
        try:
            said += process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            process.kill()
        code = process.wait(20)
    assert code in (0, -signal.SIGKILL), said.decode()
    return code


async def _is_whole(database: str, directory: Path) -> None:
    pool = await asyncpg.create_pool(database, min_size=1, max_size=2)
    place = packs_in(directory)
    held = held_in(directory)
    found = {row["txn"]: row for row in await pool.fetch("select * from quarantine")}
    aside = {int(row["id"].rpartition(".")[2]): row for row in await pool.fetch("select * from poison")}
    told = [row["txn"] for row in await pool.fetch("select txn from messages")]
    for each in held:
        if each.header == b"garbage":
            row = aside.pop(each.position)
        else:
            record = msgspec.json.decode(each.header)
            assert told.count(record["id"]) == 1
            if record["kind"] == "event":
                continue
            row = found.pop(record["id"])
        assert await place.read(row["pack"], row["pack_offset"], row["pack_bytes"]) == each.read_body()
    assert (found, aside) == ({}, {})
    assert await pool.fetchval("select sum(mails) from rollups") == len(told)
    assert await pool.fetchval("select ranges::text from stored_ranges") == f"{{[1,{len(held) + 1})}}"
    await pool.close()


async def test_a_connection_that_is_cut_in_mid_batch_stores_nothing_of_it(intake: Intake) -> None:
    mails = intake.journal.mails(5)
    trap = Trap(lambda: os.kill(int(pid), signal.SIGTERM))
    await intake.ingest.stored(STREAM)
    pid = await _backend(intake.pool)
    with pytest.raises(NotNow):
        await intake.ingest.store([*mails, trap])
    assert intake.ingest.trouble
    assert await intake.count("messages") == 0
    await intake.ingest.store([*mails, trap])
    assert await intake.count("quarantine") == 6
    assert intake.ingest.trouble == ""
    assert await intake.pool.fetchval("select sum(mails) from packs") == 6, "bodies that were packed are used"
    await intake.figures_add_up()


async def test_a_database_that_says_nothing_is_given_up(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "STATEMENT_WITHIN_S", 0.5)
    monkeypatch.setattr(session, "TRANSACTION_WITHIN_S", 1.0)
    await intake.ingest.stored(STREAM)
    pid = await _backend(intake.pool)
    mails = intake.journal.mails(5)
    try:
        async with asyncio.timeout(20):
            with pytest.raises(NotNow):
                await intake.ingest.store([*mails, Trap(lambda: os.kill(pid, signal.SIGSTOP))])
    finally:
        os.kill(pid, signal.SIGCONT)
    await intake.ingest.store(mails)
    assert await intake.count("quarantine") == 5
    await intake.figures_add_up()


async def _backend(pool: Any) -> int:
    """The server's process behind the ingest's connection."""
    found: int = await pool.fetchval("select pid from pg_stat_activity where application_name = 'mxfleet receiver'")
    return found


def test_a_server_that_is_stopped_in_mid_batch_and_comes_back(
    postgres: Postgres, database: str, tmp_path: Path
) -> None:
    """Started again outside the loop: the server ends with the thread that started it."""
    journal = Journal(tmp_path / "journal")
    with asyncio.Runner() as runner:
        runner.run(prepare(database))
        place = packs_in(tmp_path)
        line = Session(database)
        ingest = Ingest(line, PackWriter(place))
        mails = [*journal.mails(20), Trap(postgres.stop)]
        try:
            with pytest.raises(NotNow):
                runner.run(ingest.store(mails))
            for _ in range(3):
                with pytest.raises(NotNow):
                    runner.run(ingest.store(mails))
                with pytest.raises(NotNow):
                    runner.run(ingest.stored(STREAM))
        finally:
            postgres.start()
        written = sum(path.stat().st_size for path in place.directory.glob("*.pack"))
        runner.run(ingest.store(mails))
        assert sum(path.stat().st_size for path in place.directory.glob("*.pack")) == written, "tries fill no disk"
        pool = runner.run(_pool(database))
        assert runner.run(pool.fetchval("select count(*) from quarantine")) == 21
        runner.run(pool.close())
        line.close()


async def _pool(database: str) -> Any:
    return await asyncpg.create_pool(database, min_size=1, max_size=1)


async def test_a_database_that_only_reads_stores_nothing_and_loses_nothing(intake: Intake) -> None:
    mails = intake.journal.mails(3)
    name = await intake.pool.fetchval("select current_database()")
    await intake.pool.execute(f"alter database {name} set default_transaction_read_only = on")
    with pytest.raises(NotNow, match="read-only"):
        await intake.ingest.store(mails)
    assert "read-only" in intake.ingest.trouble
    await intake.pool.execute(f"set default_transaction_read_only = off; alter database {name} reset all")
    await intake.ingest.store(mails)
    assert (await intake.count("quarantine"), await intake.count("poison")) == (3, 0)


@pytest.mark.parametrize("address", ["postgresql://mxfleet@127.0.0.1:{port}/x", "no address", "postgresql://[/x"])
async def test_no_database_at_all_is_no_reason_to_set_anything_aside(
    address: str, tmp_path: Path, writer: PackWriter
) -> None:
    ingest = Ingest(Session(address.format(port=free_port())), writer)
    for _ in range(2):
        with pytest.raises(NotNow):
            await ingest.store([Journal(tmp_path / "journal").hold(kept())])
        with pytest.raises(NotNow):
            await ingest.keep_ahead()
    assert ingest.trouble.startswith("PostgreSQL: ")


async def test_a_database_that_was_not_migrated_waits(empty_database: str, tmp_path: Path, writer: PackWriter) -> None:
    line = Session(empty_database)
    ingest, mails = Ingest(line, writer), [Journal(tmp_path / "journal").hold(kept())]
    with pytest.raises(NotNow):
        await ingest.store(mails)
    await prepare(empty_database)
    await ingest.store(mails)
    line.close()


TABLES = ("quarantine", "messages", "later")


async def test_columns_that_a_later_schema_adds_keep_their_defaults(intake: Intake) -> None:
    """A migration runs while the receiver does, and before it is started anew."""
    await intake.ingest.store(intake.journal.mails(1))
    for table in TABLES:
        await intake.pool.execute(f"alter table {table} add column added boolean not null default true")
    later = kept(result(outcome=Outcome.LATER), kind=Kind.LATER)
    await intake.ingest.store([*intake.journal.mails(1), intake.journal.hold(later)])
    intake.session.close()
    await intake.ingest.store(intake.journal.mails(1))
    assert [await intake.count(table, "added") for table in TABLES] == [3, 4, 1]
    assert await intake.count("poison") == 0


async def test_a_schema_that_this_release_cannot_fill_sets_nothing_aside(intake: Intake) -> None:
    await intake.pool.execute("alter table messages add column unknown boolean not null")
    mails = intake.journal.mails(2)
    with pytest.raises(NotNow, match="unknown"):
        await intake.ingest.store(mails)
    await intake.pool.execute("alter table messages drop column unknown")
    await intake.ingest.store(mails)
    assert (await intake.count("quarantine"), await intake.count("poison")) == (2, 0)


async def test_a_disk_that_is_full_stores_nothing_and_takes_up_again(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's own refusal is under test in test_packs.py; here, what comes of it."""

    def refuse(descriptor: int, data: bytes, offset: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    mails = intake.journal.mails(3)
    with monkeypatch.context() as full:
        full.setattr(pack_writer, "_write", refuse)
        with pytest.raises(NotNow, match="No space left"):
            await intake.ingest.store(mails)
    await intake.ingest.store(mails)
    assert (await intake.count("quarantine"), await intake.count("poison")) == (3, 0)


async def test_many_at_once_wait_for_each_other(intake: Intake) -> None:
    mails = intake.journal.mails(40)
    stores = [intake.ingest.store(mails[start : start + 15]) for start in range(0, 40, 5)]
    asked = [intake.ingest.stored(STREAM) for _ in range(5)]
    await asyncio.gather(*stores, *asked)
    assert await intake.count("quarantine") == 40
    await intake.figures_add_up()


async def test_two_receivers_on_one_database_store_nothing_twice(intake: Intake, database: str, tmp_path: Path) -> None:
    """An old one may still be ending while the new one runs."""
    other = PackWriter(packs_in(tmp_path / "other"))
    line = Session(database)
    mails = intake.journal.mails(60)
    second = Ingest(line, other)
    halves = [(start, mails[start : start + 20]) for start in range(0, 60, 10)]
    await asyncio.gather(*(each.store(batch) for _, batch in halves for each in (intake.ingest, second)))
    assert (await intake.count("quarantine"), await intake.count("messages")) == (60, 60)
    assert await intake.pool.fetchval("select sum(mails) from packs") == 60, "each waited for the other's positions"
    assert await intake.ingest.stored(STREAM) == ((1, 60),)
    await intake.figures_add_up()
    line.close()
    other.close()


async def test_a_store_that_is_cancelled_leaves_nothing_half(intake: Intake) -> None:
    mails = intake.journal.mails(30)
    for delay in (0.0, 0.002, 0.005, 0.01, 0.02):
        task = asyncio.create_task(intake.ingest.store(mails))
        await asyncio.sleep(delay)  # the point at which it is cancelled
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await intake.count("messages") in (0, 30)
    await intake.ingest.store(mails)
    assert await intake.count("quarantine") == 30
    for row in await intake.pool.fetch("select * from quarantine"):
        assert await intake.body(row) == MAIL
    await intake.figures_add_up()
