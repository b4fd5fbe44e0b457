"""A message as it goes over the wire after DATA, piece by piece (RFC 5321 section 4.5.2)."""

from collections.abc import Iterator, Sequence

PIECE_BYTES = 256 * 1024
"""Longest piece: large enough to cost nothing, small enough that a hop that stops reading is noticed in between."""


def stuffed(chunks: Sequence[bytes]) -> Iterator[bytes | memoryview]:
    """The message's pieces with leading dots doubled, the final dot in the last one.

    Nothing is joined; a piece is copied only where a line in it begins with a dot.
    """
    before = b"\r\n"
    for chunk in chunks:
        for start in range(0, len(chunk), PIECE_BYTES):
            end = min(start + PIECE_BYTES, len(chunk))
            if chunk.startswith(b".", start) and before == b"\r\n":
                yield b"."
            elif chunk.startswith(b"\n.", start) and before[-1:] == b"\r":
                yield b"\n."
                start += 1
            yield _doubled(chunk, start, end)
            before = (before + chunk[max(start, end - 2) : end])[-2:]
    yield b".\r\n" if before == b"\r\n" else b"\r\n.\r\n"


def _doubled(chunk: bytes, start: int, end: int) -> bytes | memoryview:
    if chunk.find(b"\r\n.", start, end) >= 0:
        return chunk[start:end].replace(b"\r\n.", b"\r\n..")
    return chunk if end - start == len(chunk) else memoryview(chunk)[start:end]
