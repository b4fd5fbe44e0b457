"""The journal on a real disk: group commit, torn tails, flipped bits, failing writes, withdrawals, kill -9."""

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
from syncd.spool import segment, writer
from syncd.spool.hold import Conflict, Holding
from syncd.spool.journal import TIDY_BYTES, Journal, NotWritten
from syncd.spool.messages import Item, item
from syncd.spool.ranges import Positions
from syncd.spool.record import Kind
from syncd.spool.recover import count_aside
from syncd.spool.room import Room
from syncd.spool.stream import Stream
from tests.syncd.running import ROOT, until

STREAM = Stream("mx1", "ab" * 16)


def entry(position: int, size: int = 100, mark: str = "") -> tuple[Item, bytes]:
    """A record whose content names it."""
    header, body = b"{}", (f"{position}{mark} ".encode() * size)[:size]
    return item(position, Kind.KEPT, f"01ID{position}{mark}", header, body, 1000.0 + position), header + body


class Place:
    """A journal's directory, opened again and again."""

    def __init__(self, root: Path) -> None:
        self.directory, self.aside = root / STREAM.node / STREAM.epoch, root / "aside"
        self.room = Room(root, min_free_bytes=0)

    def open(self) -> Journal:
        """The journal with what is there."""
        self.room = Room(self.directory.parent, min_free_bytes=0)
        return Journal.load(self.directory, STREAM, self.room, self.aside)

    def segments(self) -> list[Path]:
        """Its files."""
        return sorted(self.directory.glob("*.seg"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def filled(place: Place, count: int = 10, size: int = 100) -> Journal:
    """A journal with records 1 to `count`."""
    journal = place.open()
    await asyncio.gather(*(journal.append(*entry(position, size)) for position in range(1, count + 1)))
    return journal


async def sound(journal: Journal) -> list[int]:
    """Positions of all records; each can be read and is what it was."""
    for position, kept in journal.records.items():
        assert await journal.read(kept) == entry(position, kept.item.body_bytes)[1]
    return sorted(journal.records)


async def test_records_are_there_again_after_a_restart(place: Place) -> None:
    journal = await filled(place)
    await journal.close()
    again = place.open()
    assert await sound(again) == list(range(1, 11))
    assert again.live_bytes == journal.live_bytes == place.room.used_bytes == 10 * 102
    assert again.oldest_at == 1001.0
    await again.append(*entry(11))
    assert len(place.segments()) == 2, "nothing is written behind what an earlier opening left"
    await again.close()
    assert await sound(place.open()) == list(range(1, 12))


async def test_all_that_wait_share_one_commit(place: Place) -> None:
    before = metrics.spool_fsync_records._sum.get(), metrics.spool_fsync_seconds._sum.get()
    journal = place.open()
    await journal.append(*entry(1))
    commits = sum(bucket.get() for bucket in metrics.spool_fsync_records._buckets)
    await asyncio.gather(*(journal.append(*entry(position)) for position in range(2, 102)))
    assert sum(bucket.get() for bucket in metrics.spool_fsync_records._buckets) == commits + 1
    assert metrics.spool_fsync_records._sum.get() == before[0] + 101
    await journal.close()


async def test_a_journal_of_which_all_is_released_leaves_nothing(place: Place) -> None:
    journal = await filled(place)
    for position in range(1, 11):
        assert journal.release(position)
    assert not journal.release(3)
    await journal.close()
    assert not place.directory.exists()
    assert (place.room.used_bytes, place.room.memory_left) == (0, Room(place.aside).memory_left)


async def test_segments_go_when_their_last_record_does(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(place.directory, STREAM, place.room, place.aside)
    journal._writer = writer.Writer(place.directory, STREAM, segment_bytes=1000)
    for position in range(1, 41):
        await journal.append(*entry(position, 200))
    count = len(place.segments())
    assert count > 5
    for position in range(1, 36):
        journal.release(position)
    await until(lambda: len(place.segments()) <= count - 4, why="segments to go")
    await journal.append(*entry(41, 200))
    await journal.close()
    again = await sound(place.open())
    assert again[-6:] == [36, 37, 38, 39, 40, 41]
    assert again[0] > 30, "what shares a segment with them comes back; the receiver says that it is stored"


async def test_an_idle_journal_does_not_keep_a_big_file(place: Place) -> None:
    journal = place.open()
    await journal.append(*entry(1, 2 * TIDY_BYTES))
    journal.release(1)
    await until(lambda: not place.segments(), why="the file to go")
    await journal.append(*entry(2))
    await journal.close()
    assert await sound(place.open()) == [2]


@pytest.mark.parametrize("seed", range(30))
async def test_a_tail_torn_anywhere_costs_only_what_was_not_whole(place: Place, seed: int) -> None:
    await (await filled(place, 5)).close()
    (path,) = place.segments()
    data, last = path.read_bytes(), segment.PREFIX_BYTES + 102 + segment.END_BYTES
    cut = random.Random(seed).randrange(1, last)
    path.write_bytes(data[:-cut])
    assert await sound(place.open()) == [1, 2, 3, 4]
    assert path.stat().st_size == len(data) - last
    assert count_aside(place.aside) == 0, "what never was whole is no damage"


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"\0", b"MXrc", b"M"])
async def test_space_that_was_never_written_is_no_damage(place: Place, tail: bytes) -> None:
    await (await filled(place, 3)).close()
    (path,) = place.segments()
    path.write_bytes(path.read_bytes() + tail)
    assert await sound(place.open()) == [1, 2, 3]
    assert count_aside(place.aside) == 0


@pytest.mark.parametrize("seed", range(60))
async def test_a_flipped_bit_costs_one_record_which_is_set_aside(place: Place, seed: int) -> None:
    await (await filled(place, 5)).close()
    (path,) = place.segments()
    data = bytearray(path.read_bytes())
    start = len(segment.head(STREAM))
    at = random.Random(seed).randrange(start, len(data))
    data[at] ^= 1 << random.Random(seed).randrange(8)
    path.write_bytes(data)
    one = segment.PREFIX_BYTES + 102 + segment.END_BYTES
    hit = (at - start) // one + 1
    for _ in range(2):  # met again at the next start, it is set aside once
        assert await sound(place.open()) == [each for each in range(1, 6) if each != hit]
        assert count_aside(place.aside) == 1


async def test_a_damaged_length_does_not_hide_what_follows(place: Place) -> None:
    await (await filled(place, 5)).close()
    (path,) = place.segments()
    data, start = bytearray(path.read_bytes()), len(segment.head(STREAM))
    data[start + 60 : start + 64] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert await sound(place.open()) == [2, 3, 4, 5]


async def test_a_body_that_looks_like_a_record_is_none(place: Place) -> None:
    """A sender who knows the format, but not the epoch, writes a record into a mail whose own is then damaged."""
    forged = b"".join(segment.entry(0, segment.What.RECORD, *entry(66)))
    journal = place.open()
    content = b"{}" + forged
    await journal.append(item(1, Kind.KEPT, "01ID1", b"{}", forged, 1.0), content)
    await journal.append(*entry(2))
    await journal.close()
    (path,) = place.segments()
    data = bytearray(path.read_bytes())
    data[len(segment.head(STREAM))] ^= 1
    path.write_bytes(data)
    assert await sound(place.open()) == [2]


@pytest.mark.parametrize("content", [b"", b"MXSEG", b"not a segment" * 50])
async def test_a_file_that_is_no_segment(place: Place, content: bytes) -> None:
    await (await filled(place, 3)).close()
    (place.directory / "00000009.seg").write_bytes(content)
    (place.directory / "readme.seg").write_bytes(b"x")
    journal = place.open()
    assert await sound(journal) == [1, 2, 3]
    assert count_aside(place.aside) == (1 if len(content) > 100 else 0)
    await journal.append(*entry(4))
    await journal.close()
    assert await sound(place.open()) == [1, 2, 3, 4]


async def test_a_segment_of_another_stream_is_not_taken_for_ours(place: Place) -> None:
    await (await filled(place, 3)).close()
    (path,) = place.segments()
    other = Stream("mx1", "cd" * 16)
    assert Journal.load(place.directory, other, Room(place.aside), place.aside).records == {}
    assert not path.exists()
    assert count_aside(place.aside) == 1


async def test_what_was_withdrawn_comes_back_at_no_restart(place: Place) -> None:
    journal = Journal(place.directory, STREAM, place.room, place.aside)
    journal._writer = writer.Writer(place.directory, STREAM, segment_bytes=500)
    for position in range(1, 9):
        await journal.append(*entry(position))
    assert journal.withdraw(2)
    assert not journal.withdraw(2)
    on_disk = journal.append(*entry(9))
    journal.withdraw(9)  # before it is written
    await on_disk
    for position in (5, 6, 7, 8):
        journal.release(position)
    await journal.close()
    again = place.open()
    assert set(again.records) & {2, 9} == set()
    assert {1, 3, 4} <= set(again.records)
    assert {2, 9} <= set(again.withdrawn)
    await again.close()
    assert set(place.open().records) & {2, 9} == set()


async def test_a_record_released_before_it_was_written_is_gone(place: Place) -> None:
    journal = place.open()
    on_disk = journal.append(*entry(1))
    journal.release(1)
    await on_disk
    await journal.close()
    assert not place.directory.exists()


async def test_a_record_spoiled_on_disk_is_not_given_out(place: Place) -> None:
    await (await filled(place, 3)).close()
    journal = place.open()
    (path,) = place.segments()
    data = bytearray(path.read_bytes())
    assert journal.records[2].place
    data[journal.records[2].place[1] + 10] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        await journal.read(journal.records[2])
    journal.set_aside(journal.records[2])
    place.open()
    assert count_aside(place.aside) == 1, "the scan and the read name the same piece alike"


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
