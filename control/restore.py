"""`python -m control restore --config … --from PLACE`: database and packs as they were when a backup was made.

One command into an empty database (or with `--replace` instead of what is there); the control plane's processes must
be down, nodes may run. What nodes still hold they offer again, and it is stored once: the positions that were stored
are in the same database. What may have happened since the backup is marked, never repeated: open releases end as
*unknown*. The settings begin a new generation, so that nodes take the restored ones.
"""

import asyncio
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from control.auth import Viewer
from control.backup import (
    DUMP,
    MANIFEST,
    OPEN,
    PACKS,
    Failed,
    Manifest,
    copy_missing,
    environment,
    leave,
    objects,
    program,
    sha256,
)
from control.quarantine import packs
from control.quarantine.objects import Away, Gone, Objects
from control.store import migrate, restore
from control.store import pool as pools
from syncd.config import Control

RESTORER = Viewer("restore", None, "operator", "cli")
MAY_BE = (
    "The database was restored from a backup of before this ended: it may have been delivered. Look in the mailbox."
)
STOPPED = "stopped: the database was restored from a backup"
OURS_PREFIX = "mxfleet"


def run(settings: Control, place: str, *, at: datetime | None, replace: bool) -> None:
    """Restore and say what was restored. Ends the process with 1 and a sentence when it cannot be done."""
    try:
        name, marked = asyncio.run(bring_back(settings, objects(place), at=at, replace=replace))
    except (Failed, Away, OSError, TimeoutError, asyncpg.PostgresError, migrate.Unmigratable) as error:
        leave(1, f"restore: {str(error) or type(error).__name__}")
    leave(0, f"restored {name}; {marked} deliveries may have been made since: they are shown as unknown")


async def bring_back(
    settings: Control, place: Objects, *, at: datetime | None = None, replace: bool = False
) -> tuple[str, int]:
    """Restore the newest backup (made not after `at`); returns its name and how many releases are unknown now.

    Raises Failed, Away, OSError, TimeoutError, asyncpg's errors, Unmigratable. Cut at any point, it is run again.
    """
    name, manifest = await _choose(place, at)
    await _make_room(settings.database, replace=replace)
    with tempfile.TemporaryDirectory(prefix="mxfleet-restore-") as directory:
        dump = Path(directory) / DUMP
        await asyncio.to_thread(dump.write_bytes, await place.get(f"{name}/{DUMP}"))
        if await asyncio.to_thread(sha256, dump) != manifest.dump_sha256:
            raise Failed(f"the dump of {name} is damaged; name an older one by --at")
        await copy_missing(place, PACKS, Objects(settings.packs), "", Path(directory))
        await _open_packs(settings, place, name, manifest)
        into = f"--dbname={environment(settings.database)['PGDATABASE']}"
        await program(settings.database, "pg_restore", "--no-owner", "--single-transaction", into, str(dump))
    return name, await _settle(settings.database)


async def _choose(place: Objects, at: datetime | None) -> tuple[str, Manifest]:
    for name in sorted((each for each in await place.directories() if each.startswith("backup-")), reverse=True):
        try:
            manifest = msgspec.json.decode(await place.get(f"{name}/{MANIFEST}"), type=Manifest)
        except (Gone, msgspec.DecodeError):
            continue  # one that was cut
        if at is None or manifest.made_at <= at:
            return name, manifest
    raise Failed("there is no whole backup" + (f" of before {at.isoformat()}" if at else ""))


async def _make_room(database: str, *, replace: bool) -> None:
    connection = await asyncpg.connect(database, timeout=pools.CONNECT_WITHIN_S)
    try:
        busy = await connection.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            " and application_name like $1 || '%'",
            OURS_PREFIX,
        )
        if busy:
            raise Failed(f"{busy} connections of the control plane are open: stop its processes first")
        if await connection.fetchval("select to_regclass('public.migrations') is not null"):
            if not replace:
                raise Failed("the database is not empty; with --replace all of it is removed first")
            await connection.execute("drop schema public cascade; create schema public")
    finally:
        await connection.close()


async def _open_packs(settings: Control, place: Objects, name: str, manifest: Manifest) -> None:
    """Put copies of open packs where the receiver seals them at its start; one that is there already is longer."""
    directory = packs.open_directory(settings)
    sealed = set(await place.listing(PACKS))
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    for file in manifest.open_packs:
        pack, path = packs.of_local(file), directory / file
        if pack is None or f"{PACKS}/{pack}" in sealed or path.exists():
            continue
        await asyncio.to_thread(path.write_bytes, await place.get(f"{name}/{OPEN}/{file}"))


async def _settle(database: str) -> int:
    """What the restored database must not take up where it left off."""
    async with asyncpg.create_pool(database, min_size=1, max_size=2, timeout=pools.CONNECT_WITHIN_S) as pool:
        async with pool.acquire() as connection:
            await migrate.apply(connection)
            marked = await _mark(connection)
        await restore.raise_generation(pool, RESTORER, 0)
    return marked


async def _mark(connection: Any) -> int:
    async with connection.transaction():
        found = await connection.fetch(
            "update jobs set state = 'unknown', outcome = $1, ended_at = now() where state in ('queued', 'running')"
            " returning id",
            MAY_BE,
        )
        await connection.execute(
            "update bulk_acts set state = 'cancelled', error = $1, ended_at = now()"
            " where state in ('listing', 'running', 'undoing')",
            STOPPED,
        )
        await connection.execute("update later set state = 'waiting' where state = 'running'")
    return len(found)
