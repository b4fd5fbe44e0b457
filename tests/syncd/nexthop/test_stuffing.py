"""The message as it goes over the wire: dots doubled at every seam, nothing copied that need not be."""

from hypothesis import given
from hypothesis import strategies as st

from mx.wire import Body
from syncd.nexthop import stuffed
from syncd.nexthop.stuffing import PIECE_BYTES


@given(st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"\r\n.", b"x", b"..", b""]), max_size=12))
def test_stuffing_is_undone_by_our_own_reader_however_the_message_is_cut(chunks: list[bytes]) -> None:
    message = b"".join(chunks)
    body = Body(10_000)
    assert body.feed(b"".join(stuffed(chunks)))
    got = body.message()
    assert got == message if message.endswith(b"\r\n") or not message else got == message + b"\r\n"
    assert body.rest == b""


@given(st.integers(-4, 4), st.sampled_from([b"\r\n.x", b"\r\n..", b".\r\n.", b"\r\n\r\n", b"....", b"\n.\r\n"]))
def test_seams_between_pieces_of_one_chunk(shift: int, seam: bytes) -> None:
    chunk = b"a" * (PIECE_BYTES + shift) + seam + b"b" * PIECE_BYTES + b"\r\n"
    wire = b"".join(stuffed([chunk]))
    assert wire == chunk.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def test_a_chunk_without_a_leading_dot_is_not_copied() -> None:
    small, large = b"Subject: x\r\n\r\n", b"a line\r\n" * PIECE_BYTES
    pieces = list(stuffed([small, large]))
    assert pieces[0] is small
    assert all(isinstance(piece, memoryview) and piece.obj is large for piece in pieces[1:-1])


def test_only_the_piece_with_a_dot_is_copied() -> None:
    large = b"a line\r\n" * PIECE_BYTES + b".\r\n"
    copied = [piece for piece in stuffed([large]) if isinstance(piece, bytes)]
    assert sum(map(len, copied)) <= PIECE_BYTES + 10


def test_no_piece_is_longer_than_its_bound() -> None:
    assert max(map(len, stuffed([b"\r\n.", b".\r\n" * PIECE_BYTES, b"x" * PIECE_BYTES]))) <= 2 * PIECE_BYTES


def test_an_empty_message_is_a_lone_dot() -> None:
    assert b"".join(stuffed([])) == b"".join(stuffed([b"", b""])) == b".\r\n"
