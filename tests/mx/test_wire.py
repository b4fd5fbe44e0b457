"""The two readers: whole, byte by byte, and with trailing bytes; bounded for any content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx.wire import LINE_BYTES, Body, Commands, has_bare_newline, normalised

MESSAGES = [
    (b".\r\n", b""),
    (b"\r\n.\r\n", b"\r\n"),
    (b"a: b\r\n\r\ntext\r\n.\r\n", b"a: b\r\n\r\ntext\r\n"),
    (b"..\r\n.\r\n", b".\r\n"),
    (b".hidden\r\n..x\r\n...\r\n.\r\n", b"hidden\r\n.x\r\n..\r\n"),
    (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n"),
    (b"a\n.\nb\r\n.\r\n", b"a\n.\nb\r\n"),
    (b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n"),
    (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n"),
    (b"a\r.\r\nb\r\n.\r\n", b"a\r.\r\nb\r\n"),
    (b"a\r\n.\rb\r\n.\r\n", b"a\r\n\rb\r\n"),
    (b"x" * 200_000 + b"\r\n.\r\n", b"x" * 200_000 + b"\r\n"),
    (b"\0\xff\r\n.\r\n", b"\0\xff\r\n"),
]


@pytest.mark.parametrize(("wire", "message"), MESSAGES)
@pytest.mark.parametrize("rest", [b"", b"QUIT\r\n", b".\r\n.\r\n"])
def test_body_whole_with_trailing_bytes(wire: bytes, message: bytes, rest: bytes) -> None:
    body = Body(1_000_000)
    assert body.feed(wire + rest)
    assert (body.message(), body.rest) == (message, rest)


@pytest.mark.parametrize(("wire", "message"), [pair for pair in MESSAGES if len(pair[0]) < 1000])
def test_body_byte_by_byte(wire: bytes, message: bytes) -> None:
    body = Body(1_000_000)
    ended = [body.feed(wire[n : n + 1]) for n in range(len(wire))]
    assert ended == [False] * (len(wire) - 1) + [True]
    assert (body.message(), body.rest) == (message, b"")


@given(st.binary(max_size=200), st.integers(1, 7))
def test_a_stuffed_message_comes_out_as_it_was_in_pieces_of_any_size(data: bytes, piece: int) -> None:
    message = normalised(data)
    message += b"" if message.endswith(b"\r\n") or not message else b"\r\n"
    wire = (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    body = Body(1_000_000)
    for start in range(0, len(wire), piece):
        ended = body.feed(wire[start : start + piece])
    assert ended
    assert body.message() == message


@pytest.mark.parametrize("content", [b"\r\n", b"x", b"..", b"\r", b".\r\n\r\n"])
def test_held_bytes_are_bounded_for_any_content(content: bytes) -> None:
    body = Body(10_000)
    chunk = content * (4096 // len(content))
    for _ in range(500):
        if body.feed(chunk):
            break
        assert body.held_bytes <= 10_000 + len(chunk) + 16
    else:
        assert body.too_big
        assert body.size_bytes == 500 * len(chunk)


def test_a_message_over_the_limit_is_known_by_its_end_too() -> None:
    body = Body(10)
    assert body.feed(b"x" * 11 + b"\r\n.\r\n")
    assert body.too_big


LINES = [
    (b"NOOP\r\n", [b"NOOP"]),
    (b"NOOP\nRSET\r\n", [b"NOOP", b"RSET"]),
    (b"\r\n", [b""]),
    (b"x" * (LINE_BYTES + 1) + b"\r\nNOOP\r\n", [b"", b"NOOP"]),
    (b"x" * (5 * LINE_BYTES) + b"\r\nNOOP\r\n", [b"", b"NOOP"]),
    (b"\xff\0\r\n", [b"\xff\0"]),
    (b"no end", []),
]


@pytest.mark.parametrize(("wire", "lines"), LINES)
@pytest.mark.parametrize("piece", [1, 3, 1_000_000])
def test_command_lines_in_pieces_of_any_size(wire: bytes, lines: list[bytes], piece: int) -> None:
    commands, found = Commands(), list[bytes]()
    for start in range(0, len(wire), piece):
        commands.feed(wire[start : start + piece])
        while (line := commands.line()) is not None:
            found.append(line)
        assert len(commands.held) <= LINE_BYTES + piece
    assert found == lines


@pytest.mark.parametrize(
    ("message", "bare"),
    [
        (b"", False),
        (b"a\r\nb\r\n", False),
        (b"a\nb\r\n", True),
        (b"a\rb\r\n", True),
        (b"\r\r\n", True),
        (b"\n\r", True),
    ],
)
def test_bare_newlines_are_seen_and_normalised(message: bytes, bare: bool) -> None:
    assert has_bare_newline(message) is bare
    assert not has_bare_newline(normalised(message))
