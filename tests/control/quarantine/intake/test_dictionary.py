"""Dictionaries trained on kept mail: numbered, never replaced, old ones readable; the command says what is amiss."""

import asyncio
import random
import sys
from pathlib import Path

import msgspec
import pytest

from control.local.configs import toml
from control.quarantine import dictionary, frames, grammar, page
from control.quarantine.objects import Away, Objects
from control.quarantine.pack_writer import PackWriter
from control.quarantine.packs import Packs, today
from tests.control.api.conftest import settings_for
from tests.control.quarantine.intake.conftest import Intake
from tests.control.quarantine.intake.held import kept


def _mails(count: int) -> list[bytes]:
    draw = random.Random(5)
    words = [f"{draw.choice('bcdfg')}{draw.choice('aeiou')}{number}" for number in range(500)]
    return [f"Subject: {' '.join(draw.choices(words, k=60))}\r\n\r\nhello\r\n".encode() for _ in range(count)]


@pytest.fixture
def place(tmp_path: Path) -> Packs:
    """Packs on the disk."""
    return Packs(Objects((tmp_path / "store").as_uri()), tmp_path / "open")


async def test_it_is_trained_on_kept_mail_and_what_an_older_one_packed_stays_readable(intake: Intake) -> None:
    mails = _mails(dictionary.FEWEST + 10)
    await intake.ingest.store([intake.journal.hold(kept(), mail) for mail in mails])
    for number in (1, 2):
        made, size, trained_on = await dictionary.make(intake.pool, intake.packs)
        assert (made, trained_on) == (number, len(mails))
        assert 0 < size <= 112 * 1024
    first, second = [await intake.packs.dictionary(number) for number in (1, 2)]
    assert await intake.packs.newest_dictionary() == second
    for number, known in ((1, first), (2, second)):
        entry = frames.Press(known).entry("0" * 26, mails[0])
        assert frames.dictionary_id(entry) == number
        assert frames.body(entry, await intake.packs.dictionary(number)) == mails[0]


async def test_a_receiver_that_starts_packs_with_the_newest(place: Packs) -> None:
    for _ in range(2):
        await dictionary.store(place, _mails(300))
    mail = _mails(1)[0]
    writer = PackWriter(place, await place.newest_dictionary())
    with writer.batch() as batch:
        stored = batch.add(today(), 31, "0" * 26, mail)
    writer.close()
    entry = (place.directory / stored.pack.replace("/", ".")).read_bytes()
    assert frames.dictionary_id(entry) == 2
    assert await Packs(place.objects, place.directory).read(stored.pack, stored.offset, stored.size) == mail


async def test_a_dictionary_never_replaces_another(place: Packs, tmp_path: Path) -> None:
    await dictionary.store(place, _mails(300))
    before = await place.dictionary(1)
    file = tmp_path / "other"
    file.write_bytes(b"other")
    with pytest.raises(Away):
        await place.objects.put("dictionaries/1", file, is_new=True)
    assert await Packs(place.objects, place.directory).dictionary(1) == before


async def test_too_little_mail_is_said_in_words_by_the_command(intake: Intake, database: str, tmp_path: Path) -> None:
    with pytest.raises(dictionary.TooFew, match="at least 200"):
        await dictionary.make(intake.pool, intake.packs)
    config = tmp_path / "control.toml"
    document = msgspec.to_builtins(settings_for(database, tmp_path))
    del document["etcd"]["tls"]  # TOML has no null
    config.write_text(toml(document))
    command = [sys.executable, "-m", "control", "dictionary", "--config", str(config)]
    child = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        _, said = await child.communicate()
    assert child.returncode == 1
    assert b"0 kept mails can be read, at least 200" in said


def test_the_page_has_the_fields_of_the_search() -> None:
    text = page.PAGE.read_text()
    assert page.renewed(text) == text, "python -m control.quarantine.page writes it anew"
    assert all(field.example in text for field in grammar.FIELDS)
