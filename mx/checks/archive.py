"""Names inside archives: zip by its central directory, nested to a depth, tar, and what gzip holds. Bounded. No I/O.

Nothing is extracted but nested zips, and of those no more than the bounds. What cannot be looked
into is a defect, never silence: rar, 7z and encrypted names are for the attachment filter to judge.
"""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from mx.checks import magic

MAX_NAMES = 1000
MAX_NAME_CHARS = 300
MAX_DEPTH = 3
MAX_DIRECTORY_BYTES = 4 * 1024 * 1024
"""A central directory that is longer holds some 40,000 names and takes a second to read."""
MAX_INNER_BYTES = 16 * 1024 * 1024
"""Of one nested archive, unpacked."""
MAX_UNPACKED_BYTES = 48 * 1024 * 1024
"""Of all nested archives of one part."""

_END = b"PK\x05\x06"
_ZIP_SUFFIXES = (".zip", ".jar", ".apk", ".docx", ".docm", ".xlsx", ".xlsm", ".pptx", ".pptm", ".odt", ".ods", ".xpi")
_NESTED = (*_ZIP_SUFFIXES, ".tar", ".gz", ".tgz")
_UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
)
"""What the standard library raises on archives that were made to break it."""


@dataclass(slots=True)
class Inside:
    """What an archive holds: names, nested ones as "outer.zip/inner.exe", and what is wrong with it."""

    names: list[str] = field(default_factory=list)
    defects: set[str] = field(default_factory=set)
    unpacked_bytes: int = 0


def look(content: bytes, kind: str, filename: str = "") -> Inside:
    """The names in an archive of this kind (`magic.kind`), none in others; `filename` names what is in a gzip."""
    inside = Inside()
    _look(content, kind, filename, "", 1, inside)
    return inside


def _look(content: bytes, kind: str, filename: str, prefix: str, depth: int, inside: Inside) -> None:
    reader = {"zip": _zip, "tar": _tar, "gzip": _gzip}.get(kind)
    if reader is None:
        return
    if depth > MAX_DEPTH:
        inside.defects.add("archive nested too deep")
        return
    try:
        for name, nested in reader(content, filename, inside):
            if len(inside.names) == MAX_NAMES:
                inside.defects.add("archive with too many names")
                return
            inside.names.append((prefix + name)[-MAX_NAME_CHARS:])  # the end says what it is
            if nested:
                _look(nested, magic.kind(nested), name, f"{prefix}{name}/", depth + 1, inside)
    except _UNREADABLE:
        inside.defects.add("unreadable archive")


def _zip(content: bytes, filename: str, inside: Inside) -> Iterator[tuple[str, bytes]]:
    end = content.rfind(_END)
    (directory_bytes,) = struct.unpack_from("<I", content, end + 12) if end >= 0 else (0,)
    if directory_bytes > MAX_DIRECTORY_BYTES:
        inside.defects.add("archive with too many names")
        return
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        for info in opened.infolist():
            is_encrypted = bool(info.flag_bits & 1)
            if is_encrypted:
                inside.defects.add("encrypted archive")
            is_nested = not is_encrypted and info.filename.lower().endswith(_NESTED)
            yield info.filename, _unpacked(opened, info, inside) if is_nested else b""


def _unpacked(opened: zipfile.ZipFile, info: zipfile.ZipInfo, inside: Inside) -> bytes:
    """A nested archive, b"" where the bounds forbid it: its declared size is a claim, so reading is bounded too."""
    if info.file_size > MAX_INNER_BYTES or inside.unpacked_bytes + info.file_size > MAX_UNPACKED_BYTES:
        inside.defects.add("archive too big to look into")
        return b""
    try:
        with opened.open(info) as file:
            content = file.read(MAX_INNER_BYTES)
    except _UNREADABLE:
        inside.defects.add("unreadable archive")
        return b""
    inside.unpacked_bytes += len(content)
    return content


def _tar(content: bytes, filename: str, inside: Inside) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as opened:
        for member in opened:
            yield member.name, b""


def _gzip(content: bytes, filename: str, inside: Inside) -> Iterator[tuple[str, bytes]]:
    """The one file in it, unpacked only to see whether that is a tar."""
    stream = zlib.decompressobj(wbits=31)
    inner = stream.decompress(content, MAX_INNER_BYTES)
    if not stream.eof and not stream.unconsumed_tail:
        raise EOFError("a gzip that is cut")
    inside.unpacked_bytes += len(inner)
    name = filename.rpartition("/")[2]
    plain = name[: -len(".gz")] if name.lower().endswith(".gz") else name.removesuffix(".tgz")
    kind = magic.kind(inner)
    yield plain or "content", inner if kind in ("tar", "zip") else b""
