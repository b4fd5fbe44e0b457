"""The index of bodies behind real mail in real packs: what is found when, whose it is, and what hostile mail costs."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control.quarantine import bodies, search
from control.quarantine.bodies import Following
from control.quarantine.extracting import Extractor
from control.quarantine.objects import Objects
from control.quarantine.packs import Packs
from control.quarantine.search import Query
from monitoring.metrics import control as metrics
from tests.control.quarantine.acts.conftest import ME, MINE, OPERATOR, THEIRS
from tests.control.quarantine.rows import at, keep, pack, record_of

MAIL = b"Subject: Cheap zebras\r\nContent-Type: text/html\r\n\r\n<p>un<b>sub</b>scribe here</p><p>now</p>\r\n"


@pytest.fixture
def place(tmp_path: Path) -> Packs:
    """Packs on the disk."""
    return Packs(Objects((tmp_path / "store").as_uri()), tmp_path / "open")


@pytest.fixture
async def following(pool: Any, place: Packs) -> AsyncIterator[Following]:
    """A follower with a child of its own."""
    made = Following(pool, place, Extractor())
    yield made
    await made.close()


async def _kept(pool: Any, place: Packs, *recipients: tuple[str, str], mail: bytes = MAIL, **fields: Any) -> list[str]:
    body = pack(place, mail)[0]
    record = record_of(recipients or [("you@mine.test", MINE)], **fields)
    return await keep(pool, record, pack=body.pack, offset=body.offset, size=body.size)


async def _ids(pool: Any, typed: str, viewer: Any = ME) -> list[str]:
    return [each.id for each in (await search.search(pool, viewer, Query(q=typed))).items]


async def test_a_body_is_found_once_it_was_read_and_the_lag_says_so(
    pool: Any, place: Packs, following: Following
) -> None:
    await _kept(pool, place)
    page = await search.search(pool, ME, Query(q="unsubscribe"))
    assert page.items == []
    assert page.lag
    assert page.lag.mails == 1
    assert await following.one()
    page = await search.search(pool, ME, Query(q="unsubscribe"))
    assert (len(page.items), page.lag) == (1, bodies.Lag())
    assert not await following.one(), "nothing is left to do"
    assert (await search.search(pool, ME, Query(sender="ann"))).lag is None, "no word was asked for"


@pytest.mark.parametrize(
    ("typed", "is_found"),
    [
        ("unsubscribe", True),
        ("body:unsubscribe", True),
        ("body:unsub*", True),
        ('body:"unsubscribe here"', True),
        ('"here now"', True),
        ("zebras unsubscribe", True),
        ("you@mine.test unsubscribe", True),
        ("subject:zebras body:here", True),
        ("zebras -lions", True),
        ("zebras -body:lions", True),
        ("-lions", True),
        ("body:zebras", False),
        ("subject:unsubscribe", False),
        ("zebras -unsubscribe", False),
        ("-unsubscribe", False),
        ("zebras -body:unsubscribe", False),
        ("zebras -body:zebras", True),
        ("unsubscribe lions", False),
        ("scribe", False),
        ('"now here"', False),
    ],
)
async def test_a_search_of_header_and_body(
    pool: Any, place: Packs, following: Following, typed: str, is_found: bool
) -> None:
    ids = await _kept(pool, place)
    await following.one()
    assert await _ids(pool, typed) == (ids if is_found else [])


async def test_a_mail_of_two_customers_is_not_found_by_the_others_address(
    pool: Any, place: Packs, following: Following
) -> None:
    mine, _ = await _kept(pool, place, ("a@mine.test", MINE), ("secret@theirs.test", THEIRS))
    await following.one()
    assert await _ids(pool, "unsubscribe") == [mine]
    assert await _ids(pool, "secret@theirs.test") == []
    assert await _ids(pool, "secret") == []
    assert len(await _ids(pool, "unsubscribe", OPERATOR)) == 2


async def test_a_lost_body_leaves_the_queue_and_the_header_is_found(pool: Any, following: Following) -> None:
    ids = await keep(pool, record_of([("you@mine.test", MINE)]))
    assert await following.one()
    assert await bodies.lag(pool) == bodies.Lag()
    assert await _ids(pool, "zebras") == ids


async def test_a_mail_that_was_removed_meanwhile_leaves_the_queue(
    pool: Any, place: Packs, following: Following
) -> None:
    await _kept(pool, place)
    await pool.execute("delete from quarantine")
    assert await following.one()
    assert await bodies.lag(pool) == bodies.Lag()
    assert await pool.fetchval("select count(*) from body_words") == 0


async def test_a_mail_that_takes_too_long_is_found_by_its_header_and_the_next_is_read(pool: Any, place: Packs) -> None:
    before = metrics.bodies_unread._value.get()
    impatient = Following(pool, place, Extractor(within_s=0.0))
    ids = await _kept(pool, place)
    assert await impatient.one()
    await impatient.close()
    assert metrics.bodies_unread._value.get() == before + 1
    assert await _ids(pool, "zebras") == ids
    assert await _ids(pool, "unsubscribe") == []


async def test_a_child_that_died_is_replaced(pool: Any, place: Packs, following: Following) -> None:
    extractor = following._extractor
    assert await extractor.words("x", MAIL) == "unsubscribe here now"
    assert extractor._child
    extractor._child.kill()
    await extractor._child.wait()
    assert await extractor.words("x", MAIL) == ""
    assert await extractor.words("x", MAIL) == "unsubscribe here now"


async def test_a_store_that_is_away_leaves_the_mail_in_the_queue(
    pool: Any, place: Packs, following: Following, tmp_path: Path
) -> None:
    await _kept(pool, place)
    for file in (tmp_path / "open").glob("*.pack"):
        file.unlink()
    away = Following(pool, Packs(Objects("s3://nowhere/at-all"), tmp_path / "open"), Extractor())
    assert not await away.one()
    await away.close()
    assert (await bodies.lag(pool)).mails == 1


async def test_what_comes_late_for_an_old_day_is_read_too(pool: Any, place: Packs, following: Following) -> None:
    ids = await _kept(pool, place, when=at(3))
    await following.one()
    assert await _ids(pool, "body:unsubscribe") == ids


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"no mail at all", "no mail at all"),
        (b"Subject: x\r\n\r\nplain words\r\n", "plain words"),
        (b"Subject: x\r\nContent-Type: text/html\r\n\r\n<td>a</td><td>b</td><script>no()</script>", "a b"),
        (b"Subject: x\r\nContent-Type: text/html\r\n\r\ncaf&eacute;&#32;&amp; <!-- no --> bar", "café bar"),
        (b"Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8gYmFzZQ==\r\n", "hello base"),
        (b"Subject: x\r\n\r\n" + b"w " * 100_000, " ".join(["w"] * 8_000)),
    ],
)
async def test_the_words_of_any_bytes(following: Following, raw: bytes, text: str) -> None:
    assert await following._extractor.words("x", raw) == text


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xfe\x00" * 100, b"\x00" * 10_000, b"<" * 300_000, b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x"],
)
async def test_bytes_that_are_no_mail_cost_the_child_nothing(following: Following, raw: bytes) -> None:
    before = metrics.bodies_unread._value.get()
    await following._extractor.words("x", raw)
    assert await following._extractor.words("x", MAIL) == "unsubscribe here now"
    assert metrics.bodies_unread._value.get() == before
