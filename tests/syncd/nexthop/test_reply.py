"""The reader of replies: whole, byte by byte, with more behind it, and bounded for any content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.nexthop.answer import Answer, replied
from syncd.nexthop.reply import LINE_BYTES, LINES, Garbled, Replies, Reply

GOOD = [
    (b"250 ok\r\n", Reply(250, (b"ok",))),
    (b"250\r\n", Reply(250, (b"",))),
    (b"250 \r\n", Reply(250, (b"",))),
    (b"354 go\n", Reply(354, (b"go",))),
    (b"250-hop\r\n250-SIZE 10\r\n250 PIPELINING\r\n", Reply(250, (b"hop", b"SIZE 10", b"PIPELINING"))),
    (b"550-5.1.1 no\r\n550 5.1.1 \x00\xff\x1b[31m\r\n", Reply(550, (b"5.1.1 no", b"5.1.1 \x00\xff\x1b[31m"))),
    (b"250 a\rb\r\n", Reply(250, (b"a\rb",))),
    (b"220 " + b"x" * (LINE_BYTES - 7) + b"\r\n", Reply(220, (b"x" * (LINE_BYTES - 7),))),
]

GARBLED = [
    b"hello there\r\n",
    b"\r\n",
    b"25 ok\r\n",
    b"2500 ok\r\n",
    b"199 what\r\n",
    b"999 what\r\n",
    b"250_ok\r\n",
    b"\x00\x00\x00\r\n",
    b"\xb2\xb5\xb0 ok\r\n",
    b"250-one\r\n251 two\r\n",
    b"250-one\r\nhello\r\n",
    b"x" * LINE_BYTES,
    b"250 " + b"x" * LINE_BYTES + b"\r\n",
    b"250-x\r\n" * (LINES + 1),
]


@pytest.mark.parametrize(("data", "reply"), GOOD)
def test_whole(data: bytes, reply: Reply) -> None:
    replies = Replies()
    replies.feed(data)
    assert (replies.take(), replies.take(), replies.held_bytes) == (reply, None, 0)


@pytest.mark.parametrize(("data", "reply"), GOOD)
def test_byte_by_byte(data: bytes, reply: Reply) -> None:
    replies = Replies()
    for n in range(len(data)):
        assert replies.take() is None
        replies.feed(data[n : n + 1])
        assert replies.held_bytes
    assert replies.take() == reply


@pytest.mark.parametrize(("data", "reply"), GOOD)
def test_with_more_behind_it(data: bytes, reply: Reply) -> None:
    replies = Replies()
    replies.feed(data + data + b"421-")
    assert (replies.take(), replies.take(), replies.take()) == (reply, reply, None)
    assert replies.held_bytes


@pytest.mark.parametrize("data", GARBLED, ids=range(len(GARBLED)))
def test_garbled(data: bytes) -> None:
    replies = Replies()
    replies.feed(data)
    with pytest.raises(Garbled):
        replies.take()


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_are_replies_or_garbled_and_what_is_held_is_bounded(pieces: list[bytes]) -> None:
    replies = Replies()
    fed = 0
    try:
        for piece in pieces:
            replies.feed(piece)
            fed += len(piece)
            while reply := replies.take():
                assert 200 <= reply.code <= 599
                fed -= sum(4 + len(line) for line in reply.lines) - 1
            assert replies.held_bytes <= fed + 1
    except Garbled:
        pass


ANSWERS = [
    ((b"2.0.0 taken",), 250, "2.0.0", "taken"),
    ((b"taken",), 250, "2.0.0", "taken"),
    ((b"5.0.0 of another class",), 250, "2.0.0", "5.0.0 of another class"),
    ((b"5.1.1",), 550, "5.1.1", ""),
    ((b"5.1.1 no", b"5.1.1 such user"), 550, "5.1.1", "no such user"),
    ((b"5.1.1 no", b"5.1.2 other"), 550, "5.1.1", "no 5.1.2 other"),
    ((b"5.1.1999 no code",), 550, "5.0.0", "5.1.1999 no code"),
    ((b"", b"two"), 450, "4.0.0", "two"),
    ((b"4.2.2 \x1b[31mfull\x00\xff",), 452, "4.2.2", "[31mfull"),
    ((b"x" * 1000,), 250, "2.0.0", "x" * 300),
]


@pytest.mark.parametrize(("lines", "code", "enhanced", "text"), ANSWERS)
def test_what_a_recipient_hears(lines: tuple[bytes, ...], code: int, enhanced: str, text: str) -> None:
    assert replied(Reply(code, lines), "hop:25", "dot") == Answer(code, enhanced, text, "hop:25", "dot")
