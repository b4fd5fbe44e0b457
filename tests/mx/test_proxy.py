"""The PROXY header: whole, byte by byte, with trailing bytes; and any bytes at all."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx import proxy
from mx.proxy import BadProxy, Proxied

V2 = proxy.SIGNATURE
ADDRESSES = bytes([192, 0, 2, 7, 192, 0, 2, 1]) + b"\x12\x67\x00\x19"
GOOD = [
    (b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n", ("192.0.2.7", 4711)),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n", ("2001:db8::7", 4711)),
    (b"PROXY UNKNOWN\r\n", ("", 0)),
    (b"PROXY UNKNOWN ff::1 ff::2 1 2\r\n", ("", 0)),
    (V2 + b"\x21\x11\x00\x0c" + ADDRESSES, ("192.0.2.7", 4711)),
    (V2 + b"\x21\x21\x00\x24" + b"\x20\x01\x0d\xb8" + b"\0" * 27 + b"\x07" + b"\x12\x67\x00\x19", ("2001:db8::", 4711)),
    (
        V2 + b"\x21\x11\x00\x0f" + ADDRESSES + b"TLV",
        ("192.0.2.7", 4711),
    ),
    (V2 + b"\x20\x00\x00\x00", ("", 0)),
    (V2 + b"\x21\x31\x00\x04unix", ("", 0)),
]
BAD = [
    b"EHLO c\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25 more\r\n",
    b"PROXY TCP4 192.0.2.777 192.0.2.1 4711 25\r\n",
    b"PROXY TCP4 ::1 ::2 4711 25\r\n",
    b"PROXY TCP6 192.0.2.7 192.0.2.1 4711 25\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 70000 25\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 -1 25\r\n",
    b"PROXY TCP4 \xff 192.0.2.1 1 25\r\n",
    b"PROXY " + b"x" * 101,
    V2 + b"\x11\x11\x00\x0c" + b"\0" * 12,
    V2 + b"\x22\x11\x00\x0c" + b"\0" * 12,
    V2 + b"\x21\x11\x00\x02ab",
    V2 + b"\x21\x21\x00\x0c" + b"\0" * 12,
    V2 + b"\x21\x11\xff\xff",
]


@pytest.mark.parametrize(("header", "client"), GOOD)
@pytest.mark.parametrize("rest", [b"", b"EHLO c\r\n", b"\0\r\n\r\n"])
def test_whole_with_trailing_bytes(header: bytes, client: tuple[str, int], rest: bytes) -> None:
    assert proxy.read(header + rest) == Proxied(len(header), *client)


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_byte_by_byte(header: bytes, client: tuple[str, int]) -> None:
    for size in range(len(header)):
        assert proxy.read(header[:size]) is None
    assert proxy.read(header) == Proxied(len(header), *client)


@pytest.mark.parametrize("header", BAD)
def test_bad(header: bytes) -> None:
    with pytest.raises(BadProxy):
        proxy.read(header)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_not_or_not_yet(data: bytes) -> None:
    for candidate in (data, V2 + data, b"PROXY TCP4 " + data, b"PROXY TCP6 " + data + b"\r\n"):
        with contextlib.suppress(BadProxy):
            found = proxy.read(candidate)
            assert found is None or 0 < found.size <= len(candidate)


def test_who_is_listed() -> None:
    networks = ("192.0.2.0/24", "2001:db8::/32")
    assert proxy.is_listed(networks, "192.0.2.7")
    assert proxy.is_listed(networks, "2001:db8::7")
    assert not proxy.is_listed(networks, "192.0.3.7")
    assert not proxy.is_listed((), "192.0.2.7")
