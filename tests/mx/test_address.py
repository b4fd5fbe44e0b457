"""Paths of MAIL and RCPT: one table, and any bytes at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx.address import NULL, BadPath, Mailbox, forward_path, reverse_path

GOOD = [
    (b"<>", "", b""),
    (b"<> SIZE=10", "", b" SIZE=10"),
    (b"<ann@example.test>", "ann@example.test", b""),
    (b"<Ann.B+tag@EXAMPLE.Test> BODY=8BITMIME", "Ann.B+tag@example.test", b" BODY=8BITMIME"),
    (b"<ann@example.test.>", "ann@example.test", b""),
    (b"<a!#$%&'*+/=?^_`{|}~-b@x.test>", "a!#$%&'*+/=?^_`{|}~-b@x.test", b""),
    (b'<"ann b"@x.test>', '"ann b"@x.test', b""),
    (b'<"a\\"b@c>"@x.test>', '"a\\"b@c>"@x.test', b""),
    (b"<@one.test,@two.test:ann@x.test>", "ann@x.test", b""),
    (b"<ann@[192.0.2.1]>", "ann@[192.0.2.1]", b""),
    (b"<ann@[IPv6:2001:db8::1]>", "ann@[ipv6:2001:db8::1]", b""),
    ("<jürg@x.test>".encode(), "jürg@x.test", b""),
    ("<ann@bücher.test>".encode(), "ann@xn--bcher-kva.test", b""),
    (b"<_dmarc@_under.score.test>", "_dmarc@_under.score.test", b""),
]

BAD = [
    b"",
    b"ann@example.test",
    b"<ann@example.test",
    b"<ann>",
    b"<@x.test>",
    b"<ann@>",
    b"<ann@@x.test>",
    b"<a..b@x.test>",
    b"<.a@x.test>",
    b"<a.@x.test>",
    b"<ann b@x.test>",
    b'<"ann@x.test>',
    b"<ann@x..test>",
    b"<ann@-x.test>",
    b"<ann\x00@x.test>",
    b"<ann@x.test\x00>",
    b"<a\rb@x.test>",
    b'<"a\nb"@x.test>',
    b"<\xff\xfe@x.test>",
    b"<ann@\xff.test>",
    b"<ann@[not a literal]>",
    b"<" + b"a" * 65 + b"@x.test>",
    b"<ann@" + b"a." * 130 + b"test>",
    b"<" + b"@r.test," * 400 + b":ann@x.test",
]


@pytest.mark.parametrize(("path", "address", "rest"), GOOD)
def test_good(path: bytes, address: str, rest: bytes) -> None:
    mailbox, left = reverse_path(path)
    assert (mailbox.address, left) == (address, rest)


@pytest.mark.parametrize("path", BAD)
def test_bad(path: bytes) -> None:
    with pytest.raises(BadPath) as error:
        reverse_path(path)
    assert error.value.code in (501, 553)
    assert str(error.value).isprintable()


def test_null_sender_is_nobody_and_never_a_recipient() -> None:
    assert reverse_path(b"<>")[0] is NULL
    with pytest.raises(BadPath):
        forward_path(b"<>")


def test_postmaster_alone_is_a_recipient() -> None:
    assert forward_path(b"<Postmaster>")[0] == Mailbox("postmaster", "")


@given(st.binary(max_size=300))
def test_any_bytes_are_taken_or_refused(data: bytes) -> None:
    for read in (reverse_path, forward_path):
        for candidate in (data, b"<" + data + b">", b"<a@" + data + b">"):
            try:
                mailbox, _ = read(candidate)
            except BadPath:
                continue
            assert not any(character < " " or character == "\x7f" for character in mailbox.address)
