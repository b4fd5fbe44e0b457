"""The last-known-good store: whole changes, torn files, readers that outlive a file."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from syncd.lastgood import FILE, NotHere, Reader, Writer
from syncd.published import Tally, element
from syncd.status import Status, boot_id, monotonic


def fill(directory: Path, values: dict[str, bytes], revision: int = 1) -> Status:
    """Make the store hold these values, as a load does."""
    with Writer(directory) as store, store.change() as change:
        tally = Tally()
        for key, value in values.items():
            change.put(key, value, element(key, value))
            tally.change(None, element(key, value))
        change.status = Status(
            generation=1,
            revision=revision,
            digest=tally.digest,
            published=tally.digest,
            count=tally.count,
            state="live",
            complete=True,
            heard_at=monotonic(),
            boot=boot_id(),
        )
    return store.status


MANY = {f"/k/{number:05}": os.urandom(700) for number in range(2000)}


def test_what_was_written_is_read_by_another_process(tmp_path: Path) -> None:
    status = fill(tmp_path, MANY)
    reader = Reader(tmp_path)
    with reader.reading() as view:
        assert view.status() == status
        assert view.status().can_deny
        assert view.value("/k/00007") == MANY["/k/00007"]
        assert view.value("/k/none") is None
        assert view.has("/k/00007")
        assert view.below("/k/0199") == {key: value for key, value in MANY.items() if key.startswith("/k/0199")}
    reader.close()


def test_a_change_without_a_status_or_with_an_error_never_happened(tmp_path: Path) -> None:
    before = fill(tmp_path, {"/a": b"1"})
    with Writer(tmp_path) as store:
        with store.change() as change:
            change.put("/b", b"2", element("/b", b"2"))
        with suppress(ZeroDivisionError), store.change() as change:
            change.delete("/a")
            change.status = Status(revision=1 // len(""))
        with store.reading() as view:
            assert (view.value("/a"), view.value("/b"), view.status()) == (b"1", None, before)


def test_the_last_readable_value_stays_when_a_new_one_cannot_be_read(tmp_path: Path) -> None:
    fill(tmp_path, {"/a": b"1"})
    with Writer(tmp_path) as store:
        with store.change() as change:
            change.put_unreadable("/a", element("/a", b"new"))
            change.put_unreadable("/b", element("/b", b"new"))
            tally = Tally()
            tally.change(None, element("/a", b"new"))
            tally.change(None, element("/b", b"new"))
            change.status = msgspec.structs.replace(store.status, digest=tally.digest, count=2, unreadable=("/a", "/b"))
        with store.reading() as view:
            assert (view.value("/a"), view.value("/b"), view.has("/b")) == (b"1", None, True)
    with Writer(tmp_path) as store:
        assert store.was_torn == ""


def _truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 3)


def _empty(file: Path) -> None:
    os.truncate(file, 0)


def _junk(file: Path) -> None:
    file.write_bytes(os.urandom(50_000))


def _zero_pages(file: Path) -> None:
    with file.open("r+b") as torn:
        for page in random.Random(1).sample(range(3, file.stat().st_size // 4096), 40):
            torn.seek(page * 4096)
            torn.write(bytes(4096))


def _flip_a_value(file: Path) -> None:
    value = MANY["/k/00100"]
    file.write_bytes(file.read_bytes().replace(value, value[:-1] + bytes([value[-1] ^ 1])))


@pytest.mark.parametrize("damage", [_truncate, _empty, _junk, _zero_pages, _flip_a_value])
def test_a_damaged_file_is_set_aside_at_the_first_or_second_start(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    fill(tmp_path, MANY)
    damage(tmp_path / FILE)
    opening = f"from pathlib import Path; from syncd.lastgood import Writer; Writer(Path({str(tmp_path)!r}))"
    first = subprocess.run([sys.executable, "-c", opening], capture_output=True, text=True, check=False)
    assert first.returncode <= 0, first.stderr  # it may have died of a signal, but of no exception
    with Writer(tmp_path) as store:
        assert not store.status.complete
        if first.returncode < 0:
            assert "died" in store.was_torn
    if damage is not _empty:
        assert (tmp_path / f"{FILE}.torn").exists()


def test_a_check_that_did_not_end_condemns_the_file(tmp_path: Path) -> None:
    fill(tmp_path, MANY)
    (tmp_path / "checking").touch()
    with Writer(tmp_path) as store:
        assert "died" in store.was_torn
        assert not store.status.complete


def test_a_reader_waits_for_a_store_and_follows_a_new_one(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "store")
    with pytest.raises(NotHere), reader.reading():
        pass
    fill(tmp_path / "store", {"/a": b"1"})
    with reader.reading() as view:
        assert view.value("/a") == b"1"
    (tmp_path / "store").rename(tmp_path / "old")
    with pytest.raises(NotHere), reader.reading():
        pass
    fill(tmp_path / "other", {"/a": b"2"})
    (tmp_path / "other").rename(tmp_path / "store")
    with reader.reading() as view:
        assert view.value("/a") == b"2"
    reader.close()


def test_a_reader_does_not_map_a_file_that_is_too_short(tmp_path: Path) -> None:
    fill(tmp_path, MANY)
    _truncate(tmp_path / FILE)
    reader = Reader(tmp_path)
    with pytest.raises(NotHere), reader.reading():
        pass


@pytest.mark.parametrize(
    ("changed", "can_deny"),
    [
        ({}, True),
        ({"state": "stale"}, False),
        ({"state": "loading"}, False),
        ({"complete": False}, False),
        ({"published": "f" * 32}, False),
        ({"heard_at": -20.0}, False),
        ({"boot": "another"}, False),
    ],
)
def test_only_a_live_whole_and_agreeing_store_can_deny(
    tmp_path: Path, changed: dict[str, object], can_deny: bool
) -> None:
    status = fill(tmp_path, {"/a": b"1"})
    if "heard_at" in changed:
        changed = {"heard_at": monotonic() - 20.0}
    assert msgspec.structs.replace(status, **changed).can_deny is can_deny
