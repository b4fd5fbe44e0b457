"""The last-known-good settings of a node: one LMDB file, written by follow, mapped by every worker.

Three tables: `values`, what is served, key → value as in etcd; `hashes`, key → element of what etcd holds, which
differs where a value could not be read and the last readable one goes on serving; `status`, one record of how far this
is. Every write is one durable transaction, so that a reader sees whole revisions and nothing in between. Reads take
some 4 µs, are synchronous, and never hold a transaction across an await.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import lmdb
import msgspec

from syncd import keys
from syncd.published import Tally, element
from syncd.status import Status

MAP_BYTES = 16 * 1024**3
"""The most the file can grow to; address space, not memory."""
READERS = 126
DIRECTORY = "lastgood"
"""Of the store, below a node's state directory."""
FILE = "data.mdb"
_CHECKING = "checking"
_STATUS = b"status"


class Torn(Exception):
    """The file cannot be used."""


class NotHere(Exception):
    """There is no store to read: follow never ran here, or it was set aside a moment ago."""


class Writer:
    """Follow's side. Opens the store in `directory`, setting a torn one aside; raises OSError when it cannot be had."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.was_torn = ""
        """Why an older file was set aside; "" when none was."""
        try:
            self._open()
        except Torn as error:
            self.was_torn = str(error)
            _set_aside(directory)
            self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._env.close()

    @property
    def status(self) -> Status:
        """As it was last written."""
        return self._status

    def say(self, status: Status) -> None:
        """Write the status alone: another state, or the same heard again."""
        with self.change() as change:
            change.status = status

    @contextmanager
    def change(self) -> Iterator["Change"]:
        """One whole change: committed when the block ends well and has set a status, else nothing happened.

        A load holds it across awaits. That keeps no reader waiting (they go on seeing what was), and this process is
        the only writer.
        """
        txn = self._env.begin(write=True)
        change = Change(txn, self._values, self._hashes)
        try:
            yield change
            if change.status is not None:
                txn.put(_STATUS, msgspec.json.encode(change.status), db=self._state)
                txn.commit()
                self._status = change.status
                _cover(self._env, self._directory)
        finally:
            txn.abort()  # of a transaction that ended this does nothing

    @contextmanager
    def reading(self) -> Iterator["View"]:
        """A view of one moment; do not await inside."""
        with self._env.begin() as txn:
            yield View(txn, self._values, self._hashes, self._state)

    def drop_stale_readers(self) -> int:
        """Free the places of readers that died; returns how many. Without it their old pages are never used again."""
        return int(self._env.reader_check())

    def _open(self) -> None:
        marker = self._directory / _CHECKING
        if marker.exists():
            marker.unlink()
            raise Torn("the process died while it checked the file")
        marker.touch()  # a damaged map can kill a process that reads it: then the next start finds this
        try:
            self._env = _environment(self._directory, readonly=False)
            _cover(self._env, self._directory)
            self._values, self._hashes, self._state = _tables(self._env, create=True)
            self._status = self._check()
            self._env.reader_check()
        except lmdb.Error as error:
            raise Torn(str(error)) from error
        finally:
            marker.unlink()

    def _check(self) -> Status:
        """The status, once the whole content was read and is what the status says. Raises Torn."""
        with self._env.begin() as txn:
            status = _read_status(txn, self._state)
            tally = Tally()
            for _, found in txn.cursor(self._hashes):
                tally.change(None, bytes(found))
            unreadable = {key.encode() for key in status.unreadable}
            for key, value in txn.cursor(self._values):
                hashed = txn.get(key, db=self._hashes)
                is_kept = hashed is None and key.startswith(keys.SHARDS.encode())  # only served on: see keep_serving
                if key not in unreadable and not is_kept and hashed != element(key.decode(), value):
                    raise Torn(f"{key!r} has another value than was written")
        if (tally.digest, tally.count) != (status.digest, status.count):
            raise Torn("the content is not what the status says")
        return status


class Change:
    """What one transaction of the writer does; set `status` to have it committed."""

    def __init__(self, txn: Any, values: Any, hashes: Any) -> None:
        self._txn, self._values, self._hashes = txn, values, hashes
        self.status: Status | None = None

    def hash_of(self, key: str) -> bytes | None:
        """Element of what etcd held; None for a key that is not here."""
        found: bytes | None = self._txn.get(key.encode(), db=self._hashes)
        return found

    def value(self, key: str) -> bytes | None:
        """What is served of a key."""
        found: bytes | None = self._txn.get(key.encode(), db=self._values)
        return found

    def put(self, key: str, value: bytes, hashed: bytes) -> None:
        """Serve a value."""
        self._txn.put(key.encode(), value, db=self._values)
        self._txn.put(key.encode(), hashed, db=self._hashes)

    def put_unreadable(self, key: str, hashed: bytes) -> None:
        """Note that etcd holds what we cannot read; what we serve stays."""
        self._txn.put(key.encode(), hashed, db=self._hashes)

    def keep_serving(self, key: str) -> None:
        """Note that etcd does not hold it any more; what we serve stays."""
        self._txn.delete(key.encode(), db=self._hashes)

    def delete(self, key: str) -> None:
        """Serve it no longer."""
        self._txn.delete(key.encode(), db=self._values)
        self._txn.delete(key.encode(), db=self._hashes)

    def keys(self, first: str, end: str) -> list[str]:
        """The keys from `first` up to, not with, `end`."""
        found, cursor = list[str](), self._txn.cursor(self._hashes)
        more = cursor.set_range(first.encode())
        while more and (key := bytes(cursor.key()).decode()) < end:
            found.append(key)
            more = cursor.next()
        return found


class Reader:
    """A worker's side: what is there now, whatever becomes of the file. Synchronous."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = str(directory / FILE)
        self._env: Any = None
        self._identity = (0, 0)

    def close(self) -> None:
        """Unmap the file."""
        if self._env is not None:
            self._env.close()
            self._env = None

    @contextmanager
    def reading(self) -> Iterator["View"]:
        """A view of one moment; do not await inside. Raises NotHere, also for a damaged file."""
        self._follow_file()
        try:
            with self._env.begin(buffers=False) as txn:
                yield View(txn, *self._tables)
        except lmdb.Error as error:
            self.close()
            raise NotHere(f"the last-known-good store cannot be read: {error}") from error

    def _follow_file(self) -> None:
        """Open the file, again if it was replaced."""
        try:
            found = os.stat(self._file)
        except OSError as error:
            raise NotHere(f"no last-known-good store: {error}") from error
        if self._env is not None and self._identity == (found.st_dev, found.st_ino):
            return
        self.close()
        try:
            self._env = _environment(self._directory, readonly=True)
            if _missing_bytes(self._env, self._directory) > 0:
                raise Torn("it is shorter than its pages")
            self._tables = _tables(self._env, create=False)
        except (lmdb.Error, Torn) as error:
            self.close()
            raise NotHere(f"the last-known-good store cannot be opened: {error}") from error
        self._identity = (found.st_dev, found.st_ino)


class View:
    """What a reader sees."""

    def __init__(self, txn: Any, values: Any, hashes: Any, state: Any) -> None:
        self._txn, self._values, self._hashes, self._state = txn, values, hashes, state

    def status(self) -> Status:
        """How far the store is."""
        return _read_status(self._txn, self._state)

    def value(self, key: str) -> bytes | None:
        """What is served; None when there is nothing to serve."""
        found: bytes | None = self._txn.get(key.encode(), db=self._values)
        return found

    def has(self, key: str) -> bool:
        """Whether etcd had this key, readable or not."""
        return self._txn.get(key.encode(), db=self._hashes) is not None

    def below(self, prefix: str) -> dict[str, bytes]:
        """What is served of every key that begins with the prefix; for the few members, not for domains."""
        found, start = dict[str, bytes](), prefix.encode()
        cursor = self._txn.cursor(self._values)
        more = cursor.set_range(start)
        while more and (key := bytes(cursor.key())).startswith(start):
            found[key.decode()] = bytes(cursor.value())
            more = cursor.next()
        return found


def _read_status(txn: Any, table: Any) -> Status:
    found = txn.get(_STATUS, db=table)
    try:
        return msgspec.json.decode(found, type=Status) if found else Status()
    except msgspec.MsgspecError as error:
        raise lmdb.CorruptedError(f"its status cannot be read: {error}") from error


def _environment(directory: Path, *, readonly: bool) -> Any:
    return lmdb.open(
        str(directory), map_size=MAP_BYTES, max_dbs=3, max_readers=READERS, readonly=readonly, create=not readonly
    )


def _tables(env: Any, *, create: bool) -> tuple[Any, Any, Any]:
    values, hashes, status = (env.open_db(name, create=create) for name in (b"values", b"hashes", b"status"))
    return values, hashes, status


def _missing_bytes(env: Any, directory: Path) -> int:
    """How much shorter the file is than its pages; whoever reads beyond its end is killed (SIGBUS)."""
    wanted: int = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    return wanted - (directory / FILE).stat().st_size


def _cover(env: Any, directory: Path) -> None:
    """Make the file as long as its pages. LMDB does not write pages that were freed again before a commit, so that a
    sound file may be short; in a torn one the check then meets zeros instead of its own death."""
    if (missing := _missing_bytes(env, directory)) > 0:
        path = directory / FILE
        os.truncate(path, path.stat().st_size + missing)


def _set_aside(directory: Path) -> None:
    for name in (FILE, "lock.mdb"):
        path = directory / name
        if path.exists():
            path.replace(directory / f"{name}.torn")
