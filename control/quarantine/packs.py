"""Packs: the bodies of kept mail, many in one file; where a pack lies, and reading one mail out of it.

A pack holds mail of one day (UTC, of receipt) and one retention class. It is written in the open directory of the
control host, and when it is sealed moved into the object store. Readers look in the directory first, then in the store.
"""

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from control.quarantine import frames
from control.quarantine.frames import Damaged
from control.quarantine.objects import Away, Gone, Objects
from syncd.config import Control

CLASSES = (7, 31, 92, 366)
"""Retention classes in days: bodies go a whole pack at a time, so nearby periods share packs."""
DICTIONARIES = "dictionaries"
_NAME = re.compile(r"\d{4}-\d\d-\d\d/\d{1,3}/[0-9A-Z]{26}\.pack", re.ASCII)


class BodyLost(Exception):
    """The mail's bytes cannot be had: its pack is gone or damaged. Rows and records are not concerned."""


class BodyAway(BodyLost):
    """The mail's bytes cannot be had now; the object store may answer another time."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one mail lies; the pack "" holds nothing: the body was lost before it came here."""

    pack: str
    offset: int
    size: int


NOWHERE = Place("", 0, 0)


class Packs:
    """Reads mail out of packs, in any process of the control host."""

    def __init__(self, objects: Objects, directory: Path) -> None:
        self.objects, self.directory = objects, directory
        self._dictionaries: dict[int, bytes] = {}

    async def read(self, name: str, offset: int, size: int) -> bytes:
        """The exact mail, proven by its SHA-256. Raises BodyLost, and no other error."""
        if not _NAME.fullmatch(name) or offset < 0 or size <= 0:
            raise BodyLost("the mail has no body here" if not name else f"{name} is no pack's name")
        try:
            entry = await asyncio.to_thread(_read_open, self.directory / local_name(name), offset, size)
            if entry is None:
                entry = await self.objects.get(name, offset, size)
            if len(entry) != size:
                raise Damaged(f"{len(entry)} bytes of {size}")
            dictionary = await self.dictionary(frames.dictionary_id(entry))
            return await asyncio.to_thread(frames.body, entry, dictionary)
        except Gone as error:
            raise BodyLost(f"gone: {error}") from error
        except Away as error:
            raise BodyAway(str(error)) from error
        except (Damaged, OSError) as error:
            raise BodyLost(f"{name}, byte {offset}: {error}") from error

    def is_open(self, name: str) -> bool:
        """Whether the pack still lies in the open directory of this host."""
        return (self.directory / local_name(name)).exists()

    async def remove(self, name: str) -> None:
        """Have no such pack in the object store. Raises Away."""
        if _NAME.fullmatch(name):
            await self.objects.remove(name)

    async def over(self, on: date) -> list[str]:
        """Names of the packs in the object store of which `is_over` is true. Raises Away."""
        found: list[str] = []
        for directory in await self.objects.directories():
            if directory < on.isoformat():
                found += [name for name in await self.objects.listing(directory) if is_over(name, on)]
        return found

    async def dictionary(self, number: int) -> bytes:
        """A dictionary by its id; b"" for 0. Raises Gone, Away."""
        if number and number not in self._dictionaries:
            self._dictionaries[number] = await self.objects.get(f"{DICTIONARIES}/{number}")
        return self._dictionaries[number] if number else b""

    async def newest_dictionary(self) -> bytes:
        """The dictionary to compress with now; b"" when none was ever made. Raises Away."""
        return await self.dictionary(await self.newest_number())

    async def newest_number(self) -> int:
        """The newest dictionary's id; 0 when none was ever made. Raises Away."""
        return max((int(name.rpartition("/")[2]) for name in await self.objects.listing(DICTIONARIES)), default=0)


def open(settings: Control) -> Packs:
    """The packs of this installation. Opens nothing yet, so that a process starts whatever is away."""
    return Packs(Objects(settings.packs), open_directory(settings))


def open_directory(settings: Control) -> Path:
    """Where packs lie until they are sealed."""
    return Path(settings.open_packs_dir or settings.receiver_journal_dir.rstrip("/") + "-packs")


def class_of(days: int) -> int:
    """The retention class that keeps at least so many days (of those that a domain can choose)."""
    return next((each for each in CLASSES if each >= days), CLASSES[-1])


def object_name(day: date, days: int, ulid: str) -> str:
    """A pack's name in the object store and in rows."""
    return f"{day.isoformat()}/{days}/{ulid}.pack"


def local_name(name: str) -> str:
    """Its file in the open directory, where nothing has to be made or tidied for a new day."""
    return name.replace("/", ".")


def of_local(file: str) -> str | None:
    """The pack whose file this is; None for other files."""
    day, _, rest = file.partition(".")
    days, _, last = rest.partition(".")
    name = f"{day}/{days}/{last}"
    return name if _NAME.fullmatch(name) else None


def is_name(name: str) -> bool:
    """Whether this is a pack's name in the object store."""
    return _NAME.fullmatch(name) is not None


def day_of(name: str) -> date:
    """The day whose mail a pack holds."""
    return date.fromisoformat(name.split("/")[0])


def days_kept(name: str) -> int:
    """The retention class of a pack, in days."""
    return int(name.split("/")[1])


def is_over(name: str, on: date) -> bool:
    """Whether all mail in the pack was, when it was written, to be kept no longer than this day. False for a name that
    is no pack's."""
    try:
        return bool(_NAME.fullmatch(name)) and day_of(name) + timedelta(days=days_kept(name)) < on
    except (ValueError, OverflowError):
        return False


def today() -> date:
    """The day that packs and partitions go by."""
    return datetime.now(UTC).date()


def _read_open(path: Path, offset: int, size: int) -> bytes | None:
    try:
        with path.open("rb") as pack:
            pack.seek(offset)
            return pack.read(size)
    except FileNotFoundError:
        return None
