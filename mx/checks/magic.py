"""What a file is by its first bytes, whatever it calls itself. No I/O."""

import re

HEAD_BYTES = 1024
"""How much of a file is looked at."""

_BY_START: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK\x07\x08", "zip"),
    (b"MZ", "pe"),
    (b"%PDF-", "pdf"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (b"Rar!\x1a\x07", "rar"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x1f\x8b", "gzip"),
    (b"\x7fELF", "elf"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"MSCF", "cab"),
    (b"ITSF", "chm"),
    (b"L\x00\x00\x00\x01\x14\x02\x00", "lnk"),
    (b"\xca\xfe\xba\xbe", "class"),
    (b"\xcf\xfa\xed\xfe", "macho"),
    (b"{\\rtf", "rtf"),
    (b"\x78\x9f\x3e\x22", "tnef"),
    (b"#!", "script"),
    (b"\x89PNG\r\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"OggS", "ogg"),
    (b"ID3", "mp3"),
    (b"wOFF", "font"),
)
"""Start → kind. Short starts that text may have are checked for more below."""

_DOUBTFUL = {b"MZ": 64, b"BM": 26}
"""Two letters are no proof: so many bytes at least, and some of them no text."""
_TAR_AT = 257
_ISO_AT = 0x8001
_HTML = re.compile(
    rb"(?:<!--.{0,500}?-->|\xef\xbb\xbf|\s)*+<(?:!doctype html|html|head|body|script|svg|iframe)\b", re.I | re.S
)
_ZIP_END = b"PK\x05\x06"
_ZIP_TAIL_BYTES = 22 + 65535
"""Its last record and a comment."""
_PDF = re.compile(rb"%PDF-[0-9]")
_CONTROL = re.compile(rb"[\x00-\x06\x0e-\x1a]")


def kind(content: bytes) -> str:
    """The kind of a file ("zip", "pe", "pdf", "ole", "html" …), "" where the first bytes tell nothing."""
    head = content[:HEAD_BYTES]
    for start, name in _BY_START:
        if head.startswith(start) and (start not in _DOUBTFUL or _is_binary(head, _DOUBTFUL[start])):
            return name
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "tar"
    if content[_ISO_AT : _ISO_AT + 5] == b"CD001":
        return "iso"
    if _HTML.match(head):
        return "html"
    if _PDF.search(head):
        return "pdf"  # readers take one that begins within the first kilobyte
    return "zip" if _ZIP_END in content[-_ZIP_TAIL_BYTES:] else ""  # a zip is read from its end, whatever stands before


def _is_binary(head: bytes, at_least: int) -> bool:
    return len(head) >= at_least and _CONTROL.search(head) is not None
