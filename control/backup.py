"""`python -m control backup --config … --to PLACE`: the database and the packs, copied to another place.

PLACE is a directory or an object store's URL. A backup is a dump of one moment, copies of the packs that were still
open, and a manifest that is written last: without it there is no backup. Sealed packs never change, so each is copied
once for all backups. The dump is taken first: a row is committed after its body was synced, so every body that a row of
the dump points to is in a pack that is copied after it.
"""

import asyncio
import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from control.local import programs
from control.quarantine import packs
from control.quarantine.objects import Away, Gone, Objects
from syncd.config import Control

MANIFEST = "manifest.json"
DUMP = "database.dump"
PACKS = "packs"
OPEN = "open"
DUMP_WITHIN_S = 6 * 3600.0


class Failed(Exception):
    """The backup, or the restore, was not done; the text says why and what to do."""


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds: when the dump began (UTC), its SHA-256, the open packs that were copied."""

    made_at: datetime
    dump_sha256: str
    open_packs: tuple[str, ...]


def run(settings: Control, place: str) -> None:
    """Make a backup and say what it is. Ends the process with 1 and a sentence when it cannot be made."""
    try:
        name, copied = asyncio.run(make(settings, objects(place)))
    except (Failed, Away, OSError) as error:
        leave(1, f"backup: {error}")
    leave(0, f"backup {name}: database, {copied} packs that were not there yet")


def leave(status: int, words: str) -> NoReturn:
    """Say the last words and end this process at once.

    Not by `sys.exit`: the object store's library has threads of its own, and one that calls back while the interpreter
    takes itself apart aborts the process (status -6) though all is done.
    """
    print(words, file=sys.stderr if status else sys.stdout, flush=True)
    os._exit(status)


def objects(place: str) -> Objects:
    """The object store of a URL, or of a directory."""
    return Objects(place if "://" in place else Path(place).absolute().as_uri())


async def make(settings: Control, place: Objects) -> tuple[str, int]:
    """Make a backup; returns its name and how many sealed packs were copied. Raises Failed, Away, OSError."""
    made_at = datetime.now(UTC)
    name = made_at.strftime("backup-%Y%m%dT%H%M%S%fZ")
    with tempfile.TemporaryDirectory(prefix="mxfleet-backup-") as directory:
        dump = Path(directory) / DUMP
        await program(settings.database, "pg_dump", "--format=custom", f"--file={dump}")
        digest = await asyncio.to_thread(sha256, dump)
        await place.put(f"{name}/{DUMP}", dump)
        opened = await _copy_open(settings, place, name)
        copied = await copy_missing(Objects(settings.packs), "", place, PACKS, Path(directory))
        manifest = Path(directory) / MANIFEST
        manifest.write_bytes(msgspec.json.encode(Manifest(made_at, digest, opened)))
        await place.put(f"{name}/{MANIFEST}", manifest)
    return name, copied


async def copy_missing(source: Objects, below: str, target: Objects, into: str, directory: Path) -> int:
    """Copy the packs and dictionaries that the target lacks; returns how many. Raises Away."""
    names = await stored(source, below)
    there = set(await stored(target, into))
    for name in (missing := [each for each in names if each not in there]):
        try:
            content = await source.get(f"{below}/{name}" if below else name)
        except Gone:
            continue  # its time was over meanwhile
        passing = directory / "passing"
        await asyncio.to_thread(passing.write_bytes, content)
        await target.put(f"{into}/{name}" if into else name, passing)
    return len(missing)


async def stored(place: Objects, below: str) -> list[str]:
    """Names of packs and dictionaries below a directory of a store. Raises Away."""
    if below:
        return [name.removeprefix(f"{below}/") for name in await place.listing(below)]
    found: list[str] = []
    for directory in await place.directories():
        found += [
            name for name in await place.listing(directory) if packs.is_name(name) or directory == packs.DICTIONARIES
        ]
    return found


async def program(database: str, name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on a database. Raises Failed with its words."""
    try:
        path = programs.find(name)
    except programs.Missing as error:
        raise Failed(f"{name} is not installed: apt-get install postgresql-client") from error
    child = await asyncio.create_subprocess_exec(
        path, *arguments, env={**os.environ, **environment(database)}, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(DUMP_WITHIN_S):
            _, said = await child.communicate()
    except BaseException:
        if child.returncode is None:
            child.kill()
            await child.wait()
        raise
    if child.returncode != 0:
        raise Failed(f"{name}: {said.decode(errors='replace').strip()[-500:]}")


def environment(database: str) -> dict[str, str]:
    """A DSN as libpq's variables: a password on a command line could be read by every user of the machine."""
    parts = urlsplit(database)
    query = dict(parse_qsl(parts.query))
    values = {
        "PGHOST": parts.hostname or query.get("host", ""),
        "PGPORT": str(parts.port or query.get("port", "")),
        "PGUSER": unquote(parts.username or query.get("user", "")),
        "PGPASSWORD": unquote(parts.password or query.get("password", "")),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
        "PGSSLMODE": query.get("sslmode", ""),
    }
    return {name: value for name, value in values.items() if value}


def sha256(path: Path) -> str:
    """Of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _copy_open(settings: Control, place: Objects, name: str) -> tuple[str, ...]:
    """The packs that are still written: what is there now is at least what the dump points to."""
    copied: list[str] = []
    for path in _open_packs(packs.open_directory(settings)):
        try:
            await place.put(f"{name}/{OPEN}/{path.name}", path)
        except FileNotFoundError:
            continue  # sealed meanwhile: it is in the store before it goes here
        except Away:
            if path.exists():
                raise
            continue
        copied.append(path.name)
    return tuple(copied)


def _open_packs(directory: Path) -> Sequence[Path]:
    return sorted(path for path in directory.glob("*.pack") if packs.of_local(path.name)) if directory.is_dir() else []
