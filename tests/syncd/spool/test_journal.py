"""The journal on a real disk: group commit, torn tails, flipped bits, withdrawals."""

import asyncio
import random

import pytest

from monitoring.metrics import syncd as metrics
from syncd.spool import segment, writer
from syncd.spool.journal import TIDY_BYTES, Journal
from syncd.spool.messages import item
from syncd.spool.ranges import Positions
from syncd.spool.record import Kind
from syncd.spool.recover import count_aside
from syncd.spool.room import Room
from syncd.spool.stream import Stream
from tests.syncd.running import until
from tests.syncd.spool.journals import STREAM, Place, entry, filled, sound


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
    second = journal.records[2]
    journal.withdraw(second)
    journal.withdraw(second)
    on_disk = journal.append(*entry(9))
    journal.withdraw(journal.records[9])  # before it is written
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


async def test_a_mark_stays_until_the_receiver_has_confirmed_it(place: Place) -> None:
    journal = await filled(place, 3)
    kept = dict(journal.records)
    for position in (1, 3):
        journal.release(position)
    for position in (1, 2):
        journal.withdraw(kept[position])  # the first was stored before its worker gave up
    await journal.close()
    again = place.open()
    assert (set(again.records), set(again.withdrawn)) == ({3}, {1, 2})
    again.release(3)
    await again.close()
    assert place.directory.exists()
    again.settle(Positions([(1, 7)]))
    await again.close()
    assert not place.directory.exists()


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
