"""The store of the quarantine's bench: a PostgreSQL of its own, filled with rows by COPY, and by the product itself.

The newest day is stored by `Ingest` as the receiver stores it, bodies and packs included; the days before it by COPY
into tables whose indexes are made afterwards, for else filling them would take most of the bench. Days that are done
are not done again.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from control.quarantine import closing, packs
from control.quarantine.bodies import Following
from control.quarantine.extracting import Extractor
from control.quarantine.ingest import Ingest
from control.quarantine.objects import Objects
from control.quarantine.pack_writer import PackWriter
from control.quarantine.packs import Packs
from control.quarantine.session import Session
from control.quarantine.words import of_header
from control.store import migrate
from syncd.spool.stream import Stream
from tests.bench.quarantine_mails import Header, Mails, record
from tests.servers import Postgres

DAYS = 30
DOMAINS = 2_000
COPIED = 20_000
"""Rows a COPY."""
STORED = 512
"""Mails a batch of ingest."""
STREAM = Stream("mx1", "b" * 32)
COLUMNS = (
    "received_at", "id", "txn", "domain", "account_id", "sender", "recipient", "subject", "header_from", "reason",
    "filter", "reason_text", "score", "node", "client_ip", "size_bytes", "attachments", "generation", "revision",
    "pack", "pack_offset", "pack_bytes", "body_sha256", "words",
)  # fmt: skip
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Store(Postgres):
    """A PostgreSQL whose data stay in a directory; sync is off, for it is CPU and plans that are measured."""

    def _initialise(self, initdb: str) -> None:
        if (self.directory / "data" / "PG_VERSION").exists():
            self.data = self.directory / "data"
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        else:
            super()._initialise(initdb)

    def command(self) -> list[str]:
        settings = ("fsync=off", "shared_buffers=2GB", "maintenance_work_mem=512MB", "max_wal_size=4GB")
        settings += ("wal_level=minimal", "max_wal_senders=0", "effective_cache_size=8GB", "random_page_cost=1.1")
        return super().command() + [part for setting in settings for part in ("-c", setting)]


@dataclass(frozen=True)
class Plan:
    """What is to be stored, and where."""

    dsn: str
    corpus: Path
    rows: int

    @property
    def a_day(self) -> int:
        """Rows of each day."""
        return self.rows // DAYS


@dataclass(frozen=True)
class Cost:
    """What it cost to do something for so many mails."""

    mails: int
    seconds: float
    client_us: float
    postgres_us: float


@dataclass(frozen=True)
class InMemory:
    """A record as the receiver holds it."""

    stream: Stream
    position: int
    header: bytes
    body: bytes

    @property
    def body_bytes(self) -> int:
        """Length of the body."""
        return len(self.body)

    def read_body(self) -> bytes:
        """The body."""
        return self.body


def account(domain: int) -> str:
    """Whose a domain is: the biggest has an account of its own, the others share 200."""
    return f"BENCH{0 if domain == 0 else 1 + domain % 200:021}"


async def prepare(plan: Plan) -> None:
    """The schema, and everybody who is served."""
    connection = await asyncpg.connect(plan.dsn)
    try:
        await migrate.apply(connection)
        await connection.execute("create table if not exists bench_days (day date primary key)")
        if not await connection.fetchval("select count(*) from domains where name like 'd%.bench'"):
            accounts = sorted({account(number) for number in range(DOMAINS)})
            await connection.execute("insert into accounts (id, name) select a, a from unnest($1::text[]) a", accounts)
            await connection.executemany(
                "insert into domains (name, account_id, next_hops) values ($1, $2, '[]')",
                [(f"d{number}.bench", account(number)) for number in range(DOMAINS)],
            )
    finally:
        await connection.close()


def copy_days(plan: Plan, days: Sequence[date], at_once: int) -> Iterator[date]:
    """Store these days by COPY, the newest first; each is given when it is done."""
    with ProcessPoolExecutor(at_once) as workers:
        yield from workers.map(_copy_day, [plan] * len(days), days)


def _copy_day(plan: Plan, day: date) -> date:
    asyncio.run(_copy(plan, day))
    return day


async def _copy(plan: Plan, day: date) -> None:
    connection = await asyncpg.connect(plan.dsn)
    part = f"quarantine_{day:%Y%m%d}"
    try:
        if await connection.fetchval("select 1 from bench_days where day = $1", day):
            return
        numbers = dict(await connection.fetch("select name, number from domains"))
        mails = Mails(plan.corpus, DOMAINS, day.toordinal())
        await connection.execute(f"drop table if exists {part} cascade; set synchronous_commit = off")
        await connection.execute(
            f"create table {part} (like quarantine including defaults including constraints);"
            " create temp table staged (like quarantine including defaults);"
            " alter table staged alter column words type text using ''"
        )
        for begin in range(0, plan.a_day, COPIED):
            rows = [_row(each, numbers) for each in _headers(mails, day, plan.a_day, begin)]
            await connection.copy_records_to_table("staged", records=rows, columns=COLUMNS)
            names = ", ".join(COLUMNS[:-1])
            await connection.execute(
                f"insert into {part} ({names}, words) select {names}, header_words(words) from staged; truncate staged"
            )
        await _index(connection, part, day)
    finally:
        await connection.close()


async def _index(connection: Any, part: str, day: date) -> None:
    """The indexes that a partition has, its figures of the day, and the day attached."""
    for index in (
        "unique index {0}_pkey on {0} (received_at, id)",
        "index on {0} (domain, received_at desc, id desc)",
        "index on {0} (account_id, received_at desc, id desc)",
        "index on {0} using gin (words)",
        "index " + closing.PIECES,
    ):
        await connection.execute("create " + index.format(part), timeout=3600)
    await connection.execute(f"alter table {part} add primary key using index {part}_pkey")
    await connection.execute(f"vacuum (analyze) {part}", timeout=3600)
    async with connection.transaction():
        await connection.execute(
            f"alter table quarantine attach partition {part} for values from"
            f" ('{day} 00:00+00') to ('{day + timedelta(days=1)} 00:00+00')",
            timeout=3600,
        )
        await connection.execute("select make_partitions($1)", day)
        await connection.execute(
            "insert into rollups select $1, domain, 'kept', reason, count(*), sum(size_bytes)"
            f" from {part} group by domain, reason on conflict do nothing",
            day,
        )
        await connection.execute("insert into bench_days values ($1)", day)


def _headers(mails: Mails, day: date, count: int, begin: int) -> Iterator[Header]:
    """The mails from the `begin`-th of a day on, spread over it."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    for number in range(begin, min(begin + COPIED, count)):
        yield mails.header(start + timedelta(milliseconds=int(number * 86_400_000 / count)))


def _row(header: Header, numbers: dict[str, int]) -> tuple[Any, ...]:
    return (
        header.at, f"{header.id}.0", header.id, numbers[f"d{header.domain}.bench"], account(header.domain),
        header.sender, header.recipient, header.subject, header.header_from, header.reason, header.reason,
        f"Refused by {header.reason}.", header.score, "mx1", header.ip, header.size, list(header.attachments), 1, 7,
        f"{header.at:%Y-%m-%d}/31/{header.id}.pack", 0, header.size // 3, b"\0" * 32,
        of_header(header.subject, (header.sender, header.header_from), header.recipient, header.attachments, 16_000),
    )  # fmt: skip


def packs_of(directory: Path) -> Packs:
    """The packs of the bench."""
    return Packs(Objects((directory / "store").as_uri()), directory / "open")


async def store(plan: Plan, directory: Path, mails: int, postgres: int) -> Cost:
    """Store today's mails as the receiver does, in batches that are made beforehand and not timed."""
    made = Mails(plan.corpus, DOMAINS, 1)
    place = packs_of(directory)
    writer = PackWriter(place, await place.newest_dictionary())
    session = Session(plan.dsn)
    ingest = Ingest(session, writer)
    start = datetime(*packs.today().timetuple()[:3], tzinfo=UTC)
    done, seconds, client, server = 0, 0.0, 0.0, 0.0
    try:
        await ingest.keep_ahead()
        while done < mails:
            batch = [_held(made, start, done + number, mails) for number in range(min(STORED, mails - done))]
            wall, ours, theirs = time.perf_counter(), time.process_time(), backends_s(postgres)
            await ingest.store(batch)
            seconds += time.perf_counter() - wall
            client += time.process_time() - ours
            server += backends_s(postgres) - theirs
            done += len(batch)
    finally:
        session.close()
        writer.close()
    return Cost(done, seconds, client / done * 1e6, server / done * 1e6)


def _held(mails: Mails, start: datetime, number: int, count: int) -> InMemory:
    elapsed = (datetime.now(UTC) - start).total_seconds() * 1000
    header = mails.header(start + timedelta(milliseconds=int(number * elapsed / count)))
    body = mails.body(header)
    return InMemory(STREAM, number + 1, msgspec.json.encode(record(header, account(header.domain), len(body))), body)


async def follow(plan: Plan, directory: Path, most: int, postgres: int) -> Cost:
    """Put the bodies of so many mails into their index, as the janitor does."""
    pool = await asyncpg.create_pool(plan.dsn, min_size=1, max_size=3)
    following = Following(pool, packs_of(directory), Extractor())
    begun, ours, theirs = time.perf_counter(), _children_s(), backends_s(postgres)
    before = await pool.fetchval("select count(*) from body_words")
    try:
        while await pool.fetchval("select count(*) from body_words") - before < most and await following.one():
            pass
        done = max(1, await pool.fetchval("select count(*) from body_words") - before)
        seconds, server = time.perf_counter() - begun, backends_s(postgres) - theirs
    finally:
        await following.close()
        await pool.close()
    return Cost(done, seconds, (_children_s() - ours) / done * 1e6, server / done * 1e6)


def backends_s(postgres: int) -> float:
    """CPU seconds of the server and all its processes."""
    return sum(_cpu_s(pid) for pid in (postgres, *_children(postgres)))


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * TICK_S


def _children_s() -> float:
    """CPU seconds of this process and of the children that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


async def stored(plan: Plan) -> int:
    """Mails of today that are stored."""
    return await _count(plan, f"select count(*) from quarantine where received_at >= '{packs.today()} 00:00+00'")


async def indexed(plan: Plan) -> int:
    """Bodies in the index."""
    return await _count(plan, "select count(*) from body_words")


async def _count(plan: Plan, sql: str) -> int:
    connection = await asyncpg.connect(plan.dsn)
    try:
        return int(await connection.fetchval(sql, timeout=600))
    finally:
        await connection.close()
