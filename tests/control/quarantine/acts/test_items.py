"""One kept mail: its row, its record without other people's parts, its exact bytes, and a body that was lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from control.quarantine import items
from control.quarantine.objects import Objects
from control.quarantine.packs import BodyLost, Packs
from tests.control.quarantine.acts.conftest import ME, MINE, OPERATOR, THEIRS, THEY
from tests.control.quarantine.rows import at, keep, pack, record_of

RAW = b"Subject: x\r\n\r\n.exact \xff bytes\r\n"


@pytest.fixture
def packs(tmp_path: Path) -> Iterator[Packs]:
    """Packs in a directory of the test's."""
    return Packs(Objects((tmp_path / "store").as_uri()), tmp_path / "open")


async def _kept(pool: Any, packs: Packs, **fields: Any) -> list[str]:
    place = pack(packs, RAW)[0]
    record = record_of([("me@mine.test", MINE), ("they@theirs.test", THEIRS)], **fields)
    return await keep(pool, record, pack=place.pack, offset=place.offset, size=place.size)


async def test_it_has_everything_that_pages_and_the_api_show(pool: Any, packs: Packs) -> None:
    mine, _ = await _kept(pool, packs, body_bytes=len(RAW))
    found = await items.get(pool, ME, mine)
    assert found is not None
    assert (found.id, found.txn, found.domain, found.size) == (mine, mine[:26], "mine.test", len(RAW))
    assert (found.reason, found.reason_text, found.revision) == ("content", "The subject holds a listed word.", 7)
    assert (found.client_ip, found.status, found.header_from) == ("192.0.2.7", "kept", "Ann <ann@sender.test>")
    assert found.record is not None
    assert found.record.judgements[found.record.recipients[0].judgements][0].acted


async def test_the_bytes_are_exact_and_are_not_a_strangers_to_read(pool: Any, packs: Packs) -> None:
    mine, theirs = await _kept(pool, packs)
    assert await items.raw(pool, packs, ME, mine) == RAW
    assert await items.raw(pool, packs, ME, theirs) is None
    assert await items.raw(pool, packs, OPERATOR, theirs) == RAW


async def test_a_stranger_and_nobody_are_the_same(pool: Any, packs: Packs) -> None:
    mine, theirs = await _kept(pool, packs)
    assert await items.get(pool, ME, theirs) is None
    for wrong in (mine[:26], mine + "0", "0" * 26 + ".0", "x", "", "\x00", mine.lower(), mine[:26] + ".99999999"):
        assert await items.get(pool, ME, wrong) is None
        assert await items.raw(pool, packs, ME, wrong) is None


async def test_of_a_shared_transaction_everybody_sees_only_their_own(pool: Any, packs: Packs) -> None:
    dialogue = (
        (0.1, "C", "MAIL FROM:<ann@sender.test>"),
        (0.2, "C", "RCPT TO:<me@mine.test>"),
        (0.3, "C", "rcpt to:<they@theirs.test>"),
        (0.4, "S", "250 2.1.5 they@theirs.test ok"),
        (0.5, "C", "RCPT TO:<@strange\\route:third@theirs.test>"),
    )
    mine, theirs = await _kept(pool, packs, dialogue=dialogue)
    seen = await items.get(pool, ME, mine)
    assert seen is not None
    assert seen.record is not None
    assert "theirs" not in repr(seen.record)
    assert THEIRS not in repr(seen.record)
    assert [line for _, _, line in seen.record.dialogue][:2] == [line for _, _, line in dialogue][:2]
    other = await items.get(pool, THEY, theirs)
    assert other is not None
    assert other.record is not None
    assert MINE not in repr(other.record)
    assert other.record.judgements[other.record.recipients[0].judgements][0].reason == f"a word of {THEIRS}"
    whole = await items.get(pool, OPERATOR, mine)
    assert whole is not None
    assert whole.record is not None
    assert len(whole.record.recipients) == 2


async def test_it_is_found_whatever_time_its_id_names(pool: Any) -> None:
    """A node's clock that had jumped gives an id of another day than the row's; absurd times have no day at all."""
    for txn in ("0" * 26, "7" + "Z" * 25, record_of([], when=at(300)).id):
        item = (await keep(pool, replace(record_of([("me@mine.test", MINE)]), id=txn)))[0]
        found = await items.get(pool, ME, item)
        assert found is not None
        assert found.txn == txn


async def test_without_its_record_the_row_is_still_there(pool: Any) -> None:
    mine = (await keep(pool, record_of([("me@mine.test", MINE)])))[0]
    await pool.execute("update mail_records set record = 'garbage'")
    for _ in range(2):
        found = await items.get(pool, ME, mine)
        assert found is not None
        assert found.record is None
        await pool.execute("delete from mail_records")


async def test_a_mail_of_a_domain_that_is_no_longer_served_is_still_its_owners(pool: Any, packs: Packs) -> None:
    mine, _ = await _kept(pool, packs)
    await pool.execute("delete from domains where name = 'mine.test'")
    found = await items.get(pool, ME, mine)
    assert found is not None
    assert (found.domain, found.served) == ("mine.test", "")


@pytest.mark.parametrize("name", ["", "2026-01-01/31/" + "0" * 26 + ".pack", "no such"])
async def test_a_lost_body_is_told_apart_from_none(pool: Any, packs: Packs, name: str) -> None:
    mine = (await keep(pool, record_of([("me@mine.test", MINE)]), pack=name, offset=0, size=10))[0]
    with pytest.raises(BodyLost):
        await items.raw(pool, packs, ME, mine)
    with pytest.raises(BodyLost):
        await items.raw(pool, None, ME, mine)
    assert await items.raw(pool, packs, THEY, mine) is None


async def test_deleted_mail_is_shown_only_to_who_looks_into_the_bin(pool: Any, packs: Packs) -> None:
    mine, _ = await _kept(pool, packs)
    await pool.execute("update quarantine set status = 'deleted', deleted_at = now()")
    assert await items.get(pool, ME, mine) is None
    assert (await items.get(pool, ME, mine, binned=True)) is not None
    assert await items.raw(pool, packs, ME, mine) == RAW
    assert await items.raw(pool, packs, THEY, mine) is None
