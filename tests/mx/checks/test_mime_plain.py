"""The short way says what the parser says, or nothing."""

import io
import tarfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mx.checks import mime, mime_plain
from tests.shared import shared_path

LINES = [b"Subject: x", b"From: a@b.test", b" folded", b"no field", b"", b"", b"text", b"begin 644 x", b"MZ", b"PK\3\4"]
STRUCTURE = [b"Content-Type: text/html", b"content-transfer-encoding : base64", b"MIME-Version: 1.0", b"X: =?u?q?a?="]


@given(st.lists(st.sampled_from([*LINES, *STRUCTURE, b"\0"]), max_size=8), st.sampled_from([b"\r\n", b"\n", b"\r"]))
@example([b"Subject: x", b"", b"text"], b"\r\n")
@example([b"Subject: x", b""], b"\r\n")
def test_any_lines(lines: list[bytes], newline: bytes) -> None:
    raw = newline.join([*lines, b""])
    found = mime_plain.read(raw)
    assert found is None or found == mime.parse(raw)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for raw in (data, b"Subject: x\r\n\r\n" + data):
        found = mime_plain.read(raw)
        assert found is None or found == mime.parse(raw)


def test_plain_mail_takes_it() -> None:
    raw = b"From: a@b.test\r\nSubject: x\r\n\r\nhello\r\n"
    assert mime_plain.read(raw) == mime.parse(raw)
    for other in (
        raw.replace(b"hello", b"h\xe4"),
        b"Content-Type: text/plain\r\n" + raw,
        raw + b"x" * mime_plain.MOST_BYTES,
    ):
        assert mime_plain.read(other) is None


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ham", "spam"])
def test_the_corpus(name: str) -> None:
    plain = 0
    with tarfile.open(fileobj=io.BytesIO(shared_path(f"corpus/{name}.tar.xz").read_bytes())) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file
            raw = file.read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            found = mime_plain.read(raw)
            assert found is None or found == mime.parse(raw)
            plain += found is not None
    assert plain
