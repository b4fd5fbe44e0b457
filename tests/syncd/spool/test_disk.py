"""Disks that are full, processes that are killed amid a write, and what is held for others after that."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.metrics import syncd as metrics
from syncd.spool.hold import Conflict, Holding
from syncd.spool.journal import Journal, NotWritten
from syncd.spool.ranges import Positions
from syncd.spool.recover import count_aside
from syncd.spool.room import Room
from tests.syncd.running import ROOT
from tests.syncd.spool.journals import STREAM, Place, entry, filled, sound

# --- a disk that fails


async def append(journal: Journal, position: int, size: int) -> str:
    """Why a record was not written; "" when it was."""
    try:
        await journal.append(*entry(position, size))
    except NotWritten as error:
        return str(error)
    return ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


async def test_a_full_disk_is_an_answer_and_heals_when_room_comes(small_disk: Path) -> None:
    place = Place(small_disk)
    journal = place.open()
    answers = [await append(journal, position, 50_000) for position in range(1, 31)]
    written = answers.count("")
    assert 5 < written < 25
    assert answers == [""] * written + ["the journal's disk: No space left on device"] * (30 - written)
    assert sorted(journal.records) == list(range(1, written + 1))
    for position in range(1, written + 1):
        journal.release(position)
    assert await append(journal, 100, 50_000) == "", "room that can be made is made"
    await journal.close()
    assert await sound(place.open()) == [100]
    assert count_aside(place.aside) == 0


async def test_records_of_a_failed_batch_are_refused_together_and_their_place_is_not_reused(small_disk: Path) -> None:
    place = Place(small_disk)
    journal = await filled(place, 2)
    batch = [journal.append(*entry(position, 200_000)) for position in range(3, 13)]
    answers = await asyncio.gather(*batch, return_exceptions=True)
    assert all(isinstance(answer, NotWritten) for answer in answers)
    assert place.room.used_bytes == journal.live_bytes == 2 * 102
    await journal.append(*entry(13))
    await journal.close()
    assert await sound(place.open()) == [1, 2, 13]


def test_room_ends_at_its_bounds(tmp_path: Path) -> None:
    room = Room(tmp_path, max_bytes=1000, min_free_bytes=0)
    room.used_bytes = 900
    assert room.lacks(100) == ""
    assert "at most 1000" in room.lacks(101)
    assert "kept free" in Room(tmp_path, min_free_bytes=2**62).lacks()
    assert "0 bytes left" in Room(tmp_path / "gone").lacks()


# --- kill -9


@pytest.mark.parametrize("seed", range(4))
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, seed: int) -> None:
    place, acknowledged = Place(tmp_path), set[int]()
    first = 1
    for round_number in range(3):
        acknowledged |= killed_amid_appends(tmp_path, first, random.Random(seed * 10 + round_number).randrange(20, 400))
        first = 1_000_000 * (round_number + 1)
        for path in place.segments()[-1:]:
            with path.open("ab") as file:
                file.write(os.urandom(random.Random(seed).randrange(1, 60)))
    assert acknowledged <= set(asyncio.run(sound(place.open())))
    assert count_aside(place.aside) == 0


def killed_amid_appends(root: Path, first: int, after_lines: int) -> set[int]:
    """The positions that a process had acknowledged when it was killed."""
    command = [sys.executable, "-m", "tests.syncd.spool.appends", str(root), str(first)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(after_lines)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    return {int(line) for line in lines if line.endswith(b"\n") and line.strip().isdigit()}


# --- holding for others


async def test_the_same_record_again_is_the_same_and_another_is_a_conflict(tmp_path: Path) -> None:
    holding = Holding(tmp_path / "held", Room(tmp_path, min_free_bytes=0), tmp_path / "aside")
    held = holding.of(STREAM)
    first = held.keep(*entry(1))
    assert held.keep(*entry(1)) is first, "under way already"
    assert list(held.held) == []
    await first
    await held.keep(*entry(1))
    assert list(held.held) == [1]
    before = metrics.spool_conflicts._value.get()
    with pytest.raises(Conflict):
        held.keep(*entry(1, mark="other"))
    assert metrics.spool_conflicts._value.get() == before + 1
    await held.keep(*entry(3))
    await holding.close()

    again = Holding(tmp_path / "held", Room(tmp_path, min_free_bytes=0), tmp_path / "aside")
    (tmp_path / "held" / "mx1" / "no-epoch").mkdir()
    (tmp_path / "held" / "stray").touch()
    again.load()
    assert list(again.streams) == [STREAM]
    assert again.of(STREAM).held.ranges() == ((1, 1), (3, 3))
    with pytest.raises(Conflict):
        again.of(STREAM).keep(*entry(3, mark="other"))
    assert len(again.of(STREAM).release(Positions([(1, 2**60)]))) == 2
    await again.tidy(())
    assert again.streams == {}
    assert not list((tmp_path / "held" / "mx1").glob("ab*"))
