"""Names inside archives, and archives that were made to cost, to hide, or to break."""

import gzip
import io
import struct
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mx.checks import archive, magic
from tests.mx.checks.test_mime import zipped


def look(content: bytes, filename: str = "") -> archive.Inside:
    """As the parser does."""
    return archive.look(content, magic.kind(content), filename)


def in_zip(name: str, content: bytes) -> bytes:
    """A zip with one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(name, content)
    return file.getvalue()


def in_tar(*names: str) -> bytes:
    """A tar of empty files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as opened:
        for name in names:
            opened.addfile(tarfile.TarInfo(name))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "filename", "names"),
    [
        (zipped("a.txt", "b/c.exe"), "", ["a.txt", "b/c.exe"]),
        (in_zip("a.zip", in_zip("b.zip", zipped("c.js"))), "", ["a.zip", "a.zip/b.zip", "a.zip/b.zip/c.js"]),
        (in_tar("a.txt", "b.exe"), "", ["a.txt", "b.exe"]),
        (gzip.compress(in_tar("b.exe")), "x.tar.gz", ["x.tar", "x.tar/b.exe"]),
        (gzip.compress(in_tar("b.exe")), "x.tgz", ["x", "x/b.exe"]),
        (gzip.compress(b"hello"), "x.exe.gz", ["x.exe"]),
        (gzip.compress(b"hello"), "", ["content"]),
        (in_zip("t.tar", in_tar("b.exe")), "", ["t.tar", "t.tar/b.exe"]),
        (b"prefix" + zipped("self.exe"), "", ["self.exe"]),
        (zipped("x" * 1000 + ".exe"), "", ["x" * (archive.MAX_NAME_CHARS - 4) + ".exe"]),
        (zipped(), "", []),
        (b"Rar!\x1a\x07\x00 whatever", "", []),
    ],
)
def test_names(content: bytes, filename: str, names: list[str]) -> None:
    inside = look(content, filename)
    assert (inside.names, inside.defects) == (names, set())


def test_the_depth_is_bounded() -> None:
    content = zipped("evil.exe")
    for n in range(10):
        content = in_zip(f"{n}.zip", content)
    inside = look(content)
    assert inside.names == ["9.zip", "9.zip/8.zip", "9.zip/8.zip/7.zip"]
    assert inside.defects == {"archive nested too deep"}


def test_an_encrypted_archive_is_a_defect_and_its_names_are_known() -> None:
    content = bytearray(zipped("secret.exe"))
    for sign, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(sign) + at] |= 1
    inside = look(bytes(content))
    assert (inside.names, inside.defects) == (["secret.exe"], {"encrypted archive"})


def test_a_bomb_is_not_unpacked() -> None:
    bomb = in_zip("inner.zip", bytes(archive.MAX_INNER_BYTES + 1))
    assert look(bomb).defects == {"archive too big to look into"}
    lying = bytearray(bomb)
    for sign, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", lying, lying.index(sign) + at, 10)
    inside = look(bytes(lying))
    assert inside.unpacked_bytes <= 10
    assert inside.names == ["inner.zip"]


def test_many_bombs_share_one_bound() -> None:
    inner = bytes(archive.MAX_INNER_BYTES)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
        for n in range(5):
            opened.writestr(f"{n}.zip", inner)
    inside = look(file.getvalue())
    assert inside.unpacked_bytes <= archive.MAX_UNPACKED_BYTES
    assert "archive too big to look into" in inside.defects


def test_a_gzip_bomb_is_unpacked_to_its_bound() -> None:
    inside = look(gzip.compress(bytes(archive.MAX_INNER_BYTES * 3)), "x.gz")
    assert inside.unpacked_bytes == archive.MAX_INNER_BYTES


def test_the_number_of_names_is_bounded() -> None:
    inside = look(zipped(*(f"{n}.txt" for n in range(archive.MAX_NAMES + 5))))
    assert (len(inside.names), inside.defects) == (archive.MAX_NAMES, {"archive with too many names"})
    inside = look(in_tar(*(f"{n}.txt" for n in range(archive.MAX_NAMES + 5))))
    assert (len(inside.names), inside.defects) == (archive.MAX_NAMES, {"archive with too many names"})


def test_a_huge_directory_is_not_read() -> None:
    content = bytearray(zipped("a"))
    struct.pack_into("<I", content, content.rindex(b"PK\x05\x06") + 12, archive.MAX_DIRECTORY_BYTES + 1)
    assert look(bytes(content)).defects == {"archive with too many names"}


@pytest.mark.parametrize(
    "content", [zipped("a.txt")[:-9], zipped("a.txt")[:30], b"PK\x03\x04", b"\x1f\x8b", b"\x1f\x8b" + b"\xff" * 50]
)
def test_a_cut_archive_is_a_defect(content: bytes) -> None:
    assert look(content).defects == {"unreadable archive"}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([zipped("a", "b.zip"), in_tar("a", "b"), gzip.compress(in_tar("a"))]), st.data())
def test_any_damage_is_survived(content: bytes, data: st.DataObject) -> None:
    """Invariant: names or a defect, never an exception."""
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    look(bytes(damaged), "x")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"MZ\x90\x00" + bytes(80), "pe"),
        (b"MZ is also how a letter may begin, even one that is long enough to be looked at twice here", ""),
        (b"%PDF-1.7", "pdf"),
        (b"\n\njunk %PDF-1.4", "pdf"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(20), "ole"),
        (b"\x7fELF", "elf"),
        (b"#!/bin/sh", "script"),
        (b"  <!-- x --><!DOCTYPE HTML>", "html"),
        (b"<HTML>", "html"),
        (b"<b>no page", ""),
        (b"{\\rtf1", "rtf"),
        (in_tar("a"), "tar"),
        (bytes(0x8001) + b"CD001", "iso"),
        (b"<!---->" * 200 + b"<p>", ""),
        (b"any start" + zipped("a"), "zip"),
        (b"BMW", ""),
        (b"", ""),
    ],
)
def test_a_kind_is_told_by_the_first_bytes(content: bytes, kind: str) -> None:
    assert magic.kind(content) == kind
