"""What filters are shown of a message: ordinary structures, tricks, and input made to break a parser."""

import base64
import hashlib
import io
import os
import zipfile
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mx.checks import mime, mime_leaves, mime_text
from mx.filter import Message, Part

PE = b"MZ\x90\x00\x03\x00\x00\x00\x04" + bytes(100)


def zipped(*names: str, content: bytes = b"x") -> bytes:
    """A zip of files with these names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return file.getvalue()


def attached(content: bytes, fields: str, encoding: str = "base64") -> bytes:
    """A multipart message: a text, and one part with these fields."""
    body = base64.encodebytes(content).replace(b"\n", b"\r\n") if encoding == "base64" else content
    return (
        b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\n"
        + fields.replace("\n", "\r\n").encode()
        + f"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
        + body
        + b"\r\n--b--\r\n"
    )


def only(message: Message, filename: str) -> Part:
    """The one part of that name."""
    (part,) = [part for part in message.parts if part.filename == filename]
    return part


@pytest.mark.parametrize(
    ("fields", "filename"),
    [
        ('Content-Type: application/zip; name="a.exe"', "a.exe"),
        ('Content-Type: x/y\nContent-Disposition: attachment; filename="b.exe"', "b.exe"),
        ("Content-Type: x/y\nContent-Disposition: attachment; filename*=utf-8''%E2%82%AC.exe", "€.exe"),
        ("Content-Disposition: attachment; filename*0*=utf-8''a%20; filename*1=\"b.exe\"", "a b.exe"),
        ('Content-Type: x/y; name="=?utf-8?B?w6QuZXhl?="', "ä.exe"),
        ('Content-Disposition: attachment;\n\tfilename="long\n name.exe"', "long name.exe"),
        ("Content-Type: x/y", ""),
    ],
)
def test_a_files_name_is_found_wherever_it_stands(fields: str, filename: str) -> None:
    part = mime.parse(attached(PE, fields)).parts[1]
    assert part.filename == filename
    assert (part.magic, part.size_bytes) == ("pe", len(PE))
    assert part.sha256 == hashlib.sha256(PE).hexdigest()


@pytest.mark.parametrize(
    ("header", "body", "text"),
    [
        ("", "h\u00e4".encode(), "hä"),
        ("Content-Type: text/plain; charset=iso-8859-1", b"h\xe4 \x80", "hä €"),
        ("Content-Type: text/plain; charset=us-ascii", "hä".encode(), "hä"),
        ("Content-Type: text/plain; charset=nonsense", b"h\xe4", "hä"),
        ("Content-Type: text/plain; charset=zip", b"h\xe4", "hä"),
        ("Content-Type: text/plain; charset=punycode", b"abc-", "abc-"),
        ('Content-Type: TEXT/HTML; charset="koi8-r"', b"<b>\xd0", "<b>п"),
        ("Content-Transfer-Encoding: quoted-printable", b"a=3Db=\r\nc =zz", "a=bc =zz"),
        ("Content-Transfer-Encoding: base64", b"aGFs\r\nbG8=", "hallo"),
        ("Content-Transfer-Encoding: BASE64", b"aGFs!!bG8", "hallo"),
        ("Content-Transfer-Encoding: x-unknown", b"abc", "abc"),
    ],
)
def test_a_text_is_decoded_as_mail_programs_do(header: str, body: bytes, text: str) -> None:
    raw = f"Subject: x\r\n{header}\r\n".replace("\r\n\r\n", "\r\n").encode() + b"\r\n" + body
    message = mime.parse(raw)
    assert [part.text for part in message.parts][-1] == text
    assert message.unchecked == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"=?utf-8?q?h=C3=A4_=3D?=", "hä ="),
        (b"=?utf-8?b?w6Q=?= =?utf-8?b?w7Y=?=", "äö"),
        (b"=?utf-8?b?w6?=\r\n =?UTF-8?B?pMO2?=", "äö"),
        (b"a =?utf-8?q?b?= c", "a b c"),
        (b"=?iso-8859-1?q?=e4?= =?utf-8?q?=c3=b6?=", "äö"),
        (b"=?utf-8*de?q?x?=", "x"),
        (b"=?utf-8?q?no end", "=?utf-8?q?no end"),
        (b"=?nonsense?q?x=ff?=", "x\xff"),
        ("ä".encode(), "ä"),
        (b"\xe4", "ä"),
    ],
)
def test_header_values_are_unfolded_and_decoded(value: bytes, text: str) -> None:
    assert mime.parse(b"Subject: " + value + b"\r\n\r\n").header("subject") == (text,)


def test_a_long_name_keeps_its_end() -> None:
    part = mime.parse(attached(PE, f'Content-Type: x/y; name="{"x" * 900}.exe"')).parts[1]
    assert part.filename == "x" * (mime.MAX_FILENAME_CHARS - 4) + ".exe"


def test_header_fields_keep_their_order_and_repetitions() -> None:
    message = mime.parse(
        b"From mbox line\r\nReceived: a\r\nSubject : b\r\nReceived: c\r\n d\r\nno field\r\nX: y\r\n\r\n"
    )
    assert message.headers == (("Received", "a"), ("Subject", "b"), ("Received", "c d"), ("X", "y"))
    assert "header.broken" in message.defects


@dataclass(frozen=True)
class Trick:
    """A message in which programs see different things, and a file name that must not be overlooked."""

    raw: bytes
    filename: str = "a.exe"
    defect: str = mime_leaves.AMBIGUOUS


_FILE = b"Content-Type: application/octet-stream; name=a.exe\r\n\r\nMZ\r\n"
TRICKS = {
    "two boundaries": Trick(
        b"Content-Type: multipart/mixed; boundary=a; boundary=b\r\n\r\n--a\r\n\r\nx\r\n--b\r\n"
        + _FILE
        + b"--a--\r\n--b--\r\n"
    ),
    "two types": Trick(
        b"Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + _FILE + b"--b--\r\n",
        "",
    ),
    "one boundary begins with the other": Trick(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        b"Content-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n" + _FILE + b"--bb--\r\n--b--\r\n",
        defect="",
    ),
    "an encoding twice": Trick(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: 7bit\r\n"
        b"Content-Transfer-Encoding: base64\r\n" + _FILE + b"--b--\r\n"
    ),
    "no end": Trick(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + _FILE, defect=""),
    "inside a forwarded message": Trick(
        b"Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + _FILE,
        defect="",
    ),
}


@pytest.mark.parametrize("name", TRICKS)
def test_what_either_reader_sees_is_seen(name: str) -> None:
    trick = TRICKS[name]
    message = mime.parse(trick.raw)
    assert trick.filename in [part.filename for part in message.parts]
    assert trick.defect in (*message.defects, "")


def test_a_multipart_without_parts_shows_its_text() -> None:
    for boundary in (b"", b"; boundary=b"):
        message = mime.parse(b"Content-Type: multipart/mixed" + boundary + b"\r\n\r\nviagra\r\n")
        assert "viagra" in "".join(part.text for part in message.parts)


def test_a_uuencoded_file_in_a_text_is_a_part() -> None:
    message = mime.parse(b"\r\nhello\r\nbegin 644 a.exe\r\n#35J0\r\n`\r\nend\r\nbye\r\n")
    assert [part.filename for part in message.parts] == ["", "a.exe"]
    assert (message.parts[1].magic, message.parts[1].size_bytes) == ("", 3)
    assert len(mime.parse(b"\r\nto begin 644 with: no file\r\nbegin 644 x\r\n").parts) == 1


def test_names_in_archives_are_members() -> None:
    inner = zipped("run.exe")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("doc/inner.zip", inner)
    part = only(mime.parse(attached(file.getvalue(), "Content-Type: x/y; name=o.zip")), "o.zip")
    assert part.members == ("doc/inner.zip", "doc/inner.zip/run.exe")
    assert part.magic == "zip"


DEEP = b"".join(b"Content-Type: multipart/mixed; boundary=%dz\r\n\r\n--%dz\r\n" % (n, n) for n in range(5000))
ONION = b"Content-Type: message/rfc822\r\n\r\n" * 5000
MANY = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 100_000
UNFINISHED = (
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    + b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" * 3000
)
LIMITED = {"deep": DEEP, "onion": ONION, "many": MANY, "same boundary": UNFINISHED}


@pytest.mark.parametrize("name", LIMITED)
def test_beyond_the_limits_is_unchecked_and_never_clean(name: str) -> None:
    message = mime.parse(b"Subject: x\r\n" + LIMITED[name])
    assert message.unchecked
    assert (message.parts, message.header("subject")) == ((), ("x",))


HOSTILE = {
    "header of 10 MB": b"X: " + b"a" * 10_000_000 + b"\r\n\r\nbody",
    "100,000 fields": b"X: y\r\n" * 100_000 + b"\r\nbody",
    "folds": b"X: y" + b"\r\n " * 100_000 + b"\r\n\r\nbody",
    "encoded words": b"Subject: " + b"=?utf-8?q?=C3=A4?= " * 50_000 + b"\r\n\r\n",
    "unfinished words": b"Subject: " + b"=?a?q?" * 50_000 + b"\r\n\r\n",
    "parameters": b"Content-Type: text/plain" + b"; a*0*=x" * 50_000 + b"\r\n\r\nbody",
    "comments": b"Content-Type: text/plain" + b"(" * 50_000 + b"\r\n\r\nbody",
    "quotes": b'Content-Type: multipart/mixed; boundary="' + b'\\"' * 50_000 + b"\r\n\r\nbody",
    "NUL": b"Subject: a\0b\r\n\r\n\0\0\0",
    "quoted-printable": b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=\r\n" * 500_000 + b"=3D" * 500_000,
    "broken base64": b"Content-Transfer-Encoding: base64\r\n\r\n" + b"A\0!=" * 100_000,
    "uuencode": b"\r\n" + b"begin 644 a\r\n" * 50_000,
    "one line": b"\r\n" + b"a" * 5_000_000,
    "empty lines": b"\r\n" * 1_000_000,
    "boundary lines": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b" * 100_000 + b"\r\n--b\r\n\r\nx",
    "one line of base64": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + b"A" * 5_000_000,
    "a charset of quadratic time": b"Content-Type: text/plain; charset=punycode-\r\n\r\n" + b"a" * 200_000 + b"-zzz",
    "utf-7": b"Content-Type: text/plain; charset=utf-7\r\n\r\n+2AA-+2D3cqQ-",
    "utf-16": b"Content-Type: text/plain; charset=utf-16\r\n\r\n\xff\xfe\x00\xd8",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_is_a_message_of_bounded_size(name: str) -> None:
    message = mime.parse(HOSTILE[name])
    assert message.unchecked == ""
    assert message.size_bytes == len(HOSTILE[name])
    assert sum(len(value) for _, value in message.headers) <= 2 * mime_text.MAX_HEADER_CHARS
    assert len(message.headers) <= mime_text.MAX_FIELDS
    assert sum(len(part.text) for part in message.parts) <= mime.MAX_ALL_TEXT_CHARS


def test_a_structure_that_takes_the_referee_too_long_is_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mime_leaves, "REFEREE_S", 0.01)
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + _FILE + b"--b\r\n\r\n" + b"a b\r\n" * 1_000_000
    message = mime.parse(raw)
    assert mime_leaves.AMBIGUOUS in message.defects
    assert message.parts[0].filename == "a.exe"


def test_text_that_is_cut_says_so() -> None:
    message = mime.parse(b"\r\n" + b"a" * (mime.MAX_TEXT_CHARS + 1))
    assert len(message.parts[0].text) == mime.MAX_TEXT_CHARS
    assert "text.cut" in message.defects
    assert "text.cut" not in mime.parse(b"\r\n" + b"a" * mime.MAX_TEXT_CHARS).defects


_PIECES = st.sampled_from(
    (
        *(b"\r\n", b"\r\n\r\n", b"\xff", b" ", b"\0", b"--b", b"--b--", b"Content-Type: ", b"; charset=", b"utf-16"),
        *(b"multipart/mixed; boundary=b", b"message/rfc822", b"text/html", b"Content-Transfer-Encoding: base64"),
        *(b"=?utf-8?q?", b"?=", b'filename*0*="', b"Content-Disposition: attachment;", b"begin 644 x\r\n", b"\nend"),
        *(b"UEsDBA==", PE, zipped("a")),
    )
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_PIECES | st.binary(max_size=20), max_size=40).map(b"".join))
def test_any_bytes_are_a_message(raw: bytes) -> None:
    """Invariant: a `Message` that can be sent on, with parts or a reason for none."""
    message = mime.parse(raw)
    assert message.size_bytes == len(raw)
    assert message.parts or message.unchecked
    for name, value in message.headers:
        (name + value).encode()
    for part in message.parts:
        (part.text + part.filename + part.content_type + "".join(part.members)).encode()


def test_random_bytes_of_a_file_are_no_kind() -> None:
    for _ in range(50):
        mime.parse(attached(os.urandom(2000), "Content-Type: x/y; name=r"))
