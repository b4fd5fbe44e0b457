"""Entries of packs as bytes: exact mail back, and no damage taken for mail."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.quarantine import frames
from control.quarantine.frames import Damaged, Press

TXN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
MAIL = b"Subject: x\r\n\r\n" + b"body \x00\xff\r\n" * 200


@given(body=st.binary(max_size=5000), txn=st.text(max_size=40))
def test_what_was_pressed_comes_back_to_the_byte(body: bytes, txn: str) -> None:
    assert frames.body(Press().entry(txn, body)) == body


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_no_flipped_bit_gives_another_mail(place: int, bit: int) -> None:
    """Only the bits of the transaction's id in the head do not concern the mail."""
    entry = bytearray(Press().entry(TXN, MAIL))
    entry[place % len(entry)] ^= 1 << bit
    try:
        assert frames.body(bytes(entry)) == MAIL
    except Damaged:
        assert bytes(entry) != Press().entry(TXN, MAIL)


def test_a_whole_frame_of_another_mail_is_not_taken_for_this_one() -> None:
    mine, other = (Press().entry(TXN, bytes([letter]) * 500) for letter in b"ab")
    assert len(mine) == len(other)
    with pytest.raises(Damaged, match="not the one"):
        frames.body(mine[:79] + other[79:])


@given(data=st.binary(max_size=400))
def test_any_bytes_are_no_entry_or_one(data: bytes) -> None:
    for make in (frames.head, frames.body, frames.dictionary_id, frames.expanded):
        try:
            make(data)
        except Damaged:
            continue


def test_a_frame_that_would_grow_without_bound_is_not_unpacked() -> None:
    with pytest.raises(Damaged, match="would be"):
        frames.expanded(Press().text(bytes(1 << 20)), limit=1000)
