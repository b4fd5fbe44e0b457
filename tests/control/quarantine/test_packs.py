"""Packs on a real disk and in a real object store: exact bytes back, damage told, torn tails cut, one writer."""

import asyncio
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from control.quarantine import frames, pack_writer, packs
from control.quarantine.frames import Press
from control.quarantine.objects import Away, Objects
from control.quarantine.pack_writer import Busy, PackWriter
from control.quarantine.packs import BodyAway, BodyLost, Packs, Place

ROOT = Path(__file__).resolve().parents[3]
TODAY, YESTERDAY = packs.today(), packs.today() - timedelta(days=1)
TXN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
MAIL = b"Subject: x\r\n\r\n" + b"body \x00\xff\r\n" * 200


@pytest.fixture
def place(tmp_path: Path) -> Packs:
    """Packs with an object store that is a directory."""
    return Packs(Objects((tmp_path / "store").as_uri()), tmp_path / "open")


@pytest.fixture
def writer(place: Packs) -> Iterator[PackWriter]:
    made = PackWriter(place)
    yield made
    made.close()


def put(writer: PackWriter, *mails: bytes, day: date = TODAY, days: int = 31) -> list[Place]:
    with writer.batch() as batch:
        return [batch.add(day, days, TXN, mail) for mail in mails]


async def read(place: Packs, at: Place) -> bytes:
    return await place.read(at.pack, at.offset, at.size)


async def test_mail_is_read_from_the_open_pack_and_from_the_sealed_one(place: Packs, writer: PackWriter) -> None:
    at = put(writer, MAIL, b"", os.urandom(3_000_000))
    before = [await read(place, each) for each in at]
    assert before[:2] == [MAIL, b""]
    with_name = {each.pack for each in at}
    assert with_name == {f"{TODAY}/31/{at[0].pack[-31:]}"}
    writer._open.clear()
    await writer.seal()
    assert list(place.directory.glob("*.pack")) == []
    assert [await read(place, each) for each in at] == before


def test_any_zstd_tool_unpacks_a_pack(place: Packs, writer: PackWriter) -> None:
    (first, _) = put(writer, MAIL, b"second")
    path = place.directory / packs.local_name(first.pack)
    script = "import sys, zstandard; sys.stdout.buffer.write(zstandard.ZstdDecompressor()"
    script += ".stream_reader(open(sys.argv[1], 'rb'), read_across_frames=True).read())"
    unpacked = subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=True).stdout
    assert unpacked == MAIL + b"second"


async def test_a_pack_is_full_at_its_size_and_days_and_classes_have_their_own(
    place: Packs, writer: PackWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_writer, "SEAL_BYTES", 1000)
    (first,) = put(writer, os.urandom(2000))
    (second,) = put(writer, MAIL)
    (other,) = put(writer, MAIL, days=366)
    (late,) = put(writer, MAIL, day=YESTERDAY)
    assert len({each.pack for each in (first, second, other, late)}) == 4
    assert [packs.day_of(each.pack) for each in (first, late)] == [TODAY, YESTERDAY]
    await writer.seal()
    assert packs.local_name(first.pack) not in os.listdir(place.directory)
    assert packs.local_name(second.pack) in os.listdir(place.directory)
    monkeypatch.setattr(pack_writer, "IDLE_S", 0.0)
    await writer.seal()
    assert packs.local_name(late.pack) not in os.listdir(place.directory), "its day is over"
    assert await read(place, late) == MAIL


async def test_reading_goes_on_while_packs_are_sealed(
    place: Packs, writer: PackWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_writer, "SEAL_BYTES", 1)
    places = [put(writer, MAIL + str(number).encode())[0] for number in range(40)]

    async def reader() -> None:
        for _ in range(5):
            for number, each in enumerate(places):
                assert await read(place, each) == MAIL + str(number).encode()

    await asyncio.gather(reader(), reader(), writer.seal())
    await writer.seal()
    assert len(os.listdir(place.directory)) == 1, "the lock alone is left"


async def test_one_damaged_frame_costs_that_mail_alone(place: Packs, writer: PackWriter) -> None:
    at = put(writer, b"first " * 100, b"second " * 100, b"third " * 100)
    path = place.directory / packs.local_name(at[0].pack)
    with path.open("r+b") as pack:
        pack.seek(at[1].offset + at[1].size - 10)
        pack.write(b"\0" * 5)
    for sealed in (False, True):
        if sealed:
            writer._open.clear()
            await writer.seal()
        assert await read(place, at[0]) == b"first " * 100
        with pytest.raises(BodyLost):
            await read(place, at[1])
        assert await read(place, at[2]) == b"third " * 100


@pytest.mark.parametrize(
    ("name", "offset", "size"),
    [
        ("", 0, 10),
        ("../../etc/passwd", 0, 10),
        (f"{TODAY}/31/{TXN}.pack", 0, 10),
        (f"{TODAY}/31/{TXN}.pack", -1, 10),
        (f"{TODAY}/31/{TXN}.pack", 0, 0),
        ("x\0y", 0, 10),
    ],
)
async def test_what_is_nowhere_is_lost(place: Packs, name: str, offset: int, size: int) -> None:
    with pytest.raises(BodyLost):
        await place.read(name, offset, size)


async def test_places_beyond_a_packs_end_are_lost(place: Packs, writer: PackWriter) -> None:
    (at,) = put(writer, MAIL)
    for sealed in (False, True):
        if sealed:
            writer._open.clear()
            await writer.seal()
        for offset, size in ((at.size, 10), (10**9, 10), (0, at.size - 1), (0, at.size + 1), (1, at.size - 1)):
            with pytest.raises(BodyLost) as found:
                await place.read(at.pack, offset, size)
            assert not isinstance(found.value, BodyAway)


async def test_a_store_that_does_not_answer_is_told_from_a_lost_mail(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    nowhere = Packs(Objects((tmp_path / "file" / "below").as_uri()), tmp_path / "open")
    with pytest.raises(BodyAway):
        await nowhere.read(f"{TODAY}/31/{TXN}.pack", 0, 10)
    writer = PackWriter(nowhere)
    (at,) = put(writer, MAIL)
    writer._open.clear()
    with pytest.raises(Away):
        await writer.seal()
    assert await read(nowhere, at) == MAIL, "what the store does not take stays"
    writer.close()


def test_two_writers_never_share_a_directory(place: Packs, writer: PackWriter) -> None:
    with pytest.raises(Busy):
        PackWriter(place)
    writer.close()
    writer._lock_file = os.open(os.devnull, os.O_RDONLY)  # the fixture closes once more
    PackWriter(place).close()


@pytest.mark.parametrize("tail", [b"torn", b"", Press().entry(TXN, MAIL)[:-1], bytes(4096)])
async def test_a_torn_tail_is_cut_at_the_start_and_the_pack_is_sealed(tmp_path: Path, tail: bytes) -> None:
    place = Packs(Objects((tmp_path / "store").as_uri()), tmp_path / "open")
    first = PackWriter(place)
    at = put(first, MAIL, b"second")
    first.close()
    with (place.directory / packs.local_name(at[0].pack)).open("ab") as pack:
        pack.write(tail)
    again = PackWriter(place)
    (later,) = put(again, b"third")
    assert later.pack != at[0].pack, "never appended to again"
    await again.seal()
    stored = (tmp_path / "store" / at[0].pack).read_bytes()
    assert len(stored) == at[1].offset + at[1].size
    assert [await read(place, each) for each in (*at, later)] == [MAIL, b"second", b"third"]
    again.close()


def test_an_error_in_a_batch_undoes_all_of_it(place: Packs, writer: PackWriter) -> None:
    (kept,) = put(writer, MAIL)
    path = place.directory / packs.local_name(kept.pack)

    def fail() -> None:
        with writer.batch() as batch:
            batch.add(TODAY, 31, TXN, MAIL)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.stat().st_size == kept.size
    (next_one,) = put(writer, MAIL)
    assert next_one.offset == kept.size


async def test_a_pack_that_could_not_be_synced_is_never_written_to_again(
    place: Packs, writer: PackWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed sync the kernel has forgotten the error: a later sync that succeeds may lie."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (kept,) = put(writer, MAIL)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            put(writer, b"lost")
    (after,) = put(writer, b"after")
    assert after.pack != kept.pack
    assert [await read(place, each) for each in (kept, after)] == [MAIL, b"after"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from control.quarantine.objects import Objects
from control.quarantine.pack_writer import PackWriter
from control.quarantine.packs import Packs, today
import os
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = PackWriter(Packs(Objects("file:///nowhere"), Path(sys.argv[1])))
with writer.batch() as batch:
    batch.add(today(), 31, "x", b"small")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
for _ in range(3):
    try:
        with writer.batch() as batch:
            batch.add(today(), 31, "x", os.urandom(20_000))
    except OSError as error:
        print(error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with writer.batch() as batch:
    print(batch.add(today(), 31, "x", b"small").offset)
"""


def test_a_write_that_the_disk_refuses_leaves_nothing_and_later_ones_go_on(tmp_path: Path) -> None:
    """The kernel refuses the write half-way, as it does on a full disk."""
    assert resource.RLIMIT_FSIZE
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.split() if line.isdigit()]
    assert lines[:3] == ["27"] * 3
    assert 0 < int(lines[3]) < 200, "behind the small one"
    assert len(list(tmp_path.glob("*.pack"))) == 1


async def test_a_dictionary_is_found_by_the_id_in_the_frame(place: Packs, tmp_path: Path) -> None:
    samples = [f"From: a{n}@example.test\r\nSubject: offer {n * n}\r\n\r\nBuy {n} now!".encode() for n in range(2000)]
    assert await place.newest_dictionary() == b""
    for number in (1, 2):
        (tmp_path / "dictionary").write_bytes(frames.train(samples[number::2], number, 2000))
        await place.objects.put(f"{packs.DICTIONARIES}/{number}", tmp_path / "dictionary")
    places = []
    for made_with in (b"", await place.dictionary(1), await place.newest_dictionary()):
        writer = PackWriter(place, made_with)
        places += put(writer, samples[7])
        writer.close()
    assert places[2].size < places[0].size
    entry = (place.directory / packs.local_name(places[2].pack)).read_bytes()
    assert frames.dictionary_id(entry) == 2
    fresh = Packs(place.objects, place.directory)
    assert [await read(fresh, each) for each in places] == [samples[7]] * 3
    await place.objects.remove(f"{packs.DICTIONARIES}/1")
    with pytest.raises(BodyLost, match="dictionaries/1"):
        await read(Packs(place.objects, place.directory), places[1])


async def test_a_stored_pack_that_is_removed_is_gone_and_an_open_one_stays(place: Packs, writer: PackWriter) -> None:
    (at,) = put(writer, MAIL)
    await place.remove(at.pack)
    assert place.is_open(at.pack)
    assert await read(place, at) == MAIL, "the writer may still append"
    writer._open.clear()
    await writer.seal()
    assert not place.is_open(at.pack)
    await place.remove(at.pack)
    await place.remove(at.pack)
    with pytest.raises(BodyLost):
        await read(place, at)


@pytest.mark.parametrize(
    ("name", "is_over"),
    [
        (f"2026-11-01/7/{TXN}.pack", True),
        (f"2026-11-17/7/{TXN}.pack", True),
        (f"2026-11-18/7/{TXN}.pack", False),
        (f"2026-11-01/31/{TXN}.pack", False),
        (f"2026-02-31/7/{TXN}.pack", False),
        (f"9999-12-31/366/{TXN}.pack", False),
        ("2026-11-01/7/other", False),
        ("dictionaries/1", False),
    ],
)
def test_a_pack_is_over_when_its_class_is(name: str, is_over: bool) -> None:
    assert packs.is_over(name, date(2026, 11, 25)) is is_over


@pytest.mark.parametrize(("days", "expected"), [(1, 7), (7, 7), (8, 31), (31, 31), (32, 92), (366, 366), (9999, 366)])
def test_periods_share_classes(days: int, expected: int) -> None:
    assert packs.class_of(days) == expected
