"""TLS with next hops: what each mode takes, what it leaves, and what an attacker in between cannot add."""

import asyncio
import ssl
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.layers import NextHop, TlsMode
from syncd.nexthop import Answer, Pool
from tests.certificates import self_signed, server_context
from tests.nexthops import Mailbox, Script, Talker, real, scripted
from tests.syncd.nexthop.sending import hand_over, told

MODES: tuple[TlsMode, ...] = ("opportunistic", "required", "verified")
STARTTLS = "250-hop\r\n250 STARTTLS"


def presenting(directory: Path, name: str, *, days: int = 1) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of that name, and a client's that trusts its issuer."""
    certificate, key = self_signed(directory, name, days=days)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=certificate)


async def send(hop: NextHop, mode: TlsMode, verifying: ssl.SSLContext | None = None) -> Answer:
    """One mail in this mode, to the hop by the name "localhost"."""
    async with Pool(verifying=verifying) as pool:
        return (await hand_over(replace(hop, host="localhost", tls=mode), pool=pool))["a@x.test"]


@pytest.mark.parametrize(
    ("name", "days", "taken_by"),
    [
        ("localhost", 1, ("opportunistic", "required", "verified")),
        ("other.test", 1, ("opportunistic", "required")),
        ("localhost", -1, ("opportunistic", "required")),
    ],
    ids=["right", "wrong name", "expired"],
)
@pytest.mark.parametrize("mode", MODES)
async def test_certificates(mode: TlsMode, name: str, days: int, taken_by: tuple[str, ...], tmp_path: Path) -> None:
    mailbox = Mailbox()
    server, verifying = presenting(tmp_path, name, days=days)
    async with real(mailbox, tls=server) as hop:
        answer = await send(hop, mode, verifying)
    assert answer.taken is (mode in taken_by)
    assert mailbox.used_tls is answer.taken
    if not answer.taken:
        assert (answer.enhanced, answer.down) == ("4.7.5", True)


async def test_a_stranger_s_certificate_is_not_verified(tmp_path: Path) -> None:
    mailbox = Mailbox()
    (tmp_path / "other").mkdir()
    _, trusts_another = presenting(tmp_path / "other", "localhost")
    async with real(mailbox, tls=server_context(tmp_path, "localhost")) as hop:
        assert told(await send(hop, "verified", trusts_another)) == "451 connect"
    assert mailbox.mails == []


async def test_a_secure_connection_is_used_again(tmp_path: Path) -> None:
    counted: list[str] = []
    mailbox = Mailbox()
    server, verifying = presenting(tmp_path, "localhost")
    async with real(mailbox, tls=server) as hop, Pool(verifying=verifying, count=counted.append) as pool:
        for _ in range(3):
            await hand_over(replace(hop, host="localhost", tls="verified"), pool=pool)
            assert mailbox.used_tls
    assert counted == ["opened", "reused", "reused"]
    assert len(mailbox.mails) == 3


async def test_a_large_message_over_tls(tmp_path: Path) -> None:
    talker = Talker(tls=server_context(tmp_path), EHLO=STARTTLS)
    message = (b"x" * 70 + b"\r\n") * 50_000
    async with scripted(talker) as hop, Pool() as pool:
        answer = (await hand_over(replace(hop, tls="required"), message=(message,), pool=pool))["a@x.test"]
    assert answer.taken
    assert talker.messages == [message + b".\r\n"]


async def _garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    writer.write(b"no TLS at all\r\n")


async def _hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)


async def _stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1000):
        pass


def breaking(at_handshake: Script, talker: Talker, behind: bytes = b"") -> Script:
    """A hop that agrees to TLS and then does this; without STARTTLS it is like `talker`."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hop\r\n")
        await reader.readline()
        writer.write(STARTTLS.encode() + b"\r\n")
        line = await reader.readline()
        if line == b"STARTTLS\r\n":
            writer.write(b"220 go\r\n" + behind)
            await at_handshake(reader, writer)
            return
        inner = asyncio.StreamReader()
        inner.feed_data(line)
        talk = asyncio.ensure_future(talker(inner, writer))
        while data := await reader.read(1000):
            inner.feed_data(data)
        inner.feed_eof()
        await talk

    return script


@pytest.mark.parametrize("at_handshake", [_garbage, _hangs_up, _stalls])
@pytest.mark.parametrize("mode", MODES)
async def test_a_handshake_that_breaks(mode: TlsMode, at_handshake: Script) -> None:
    talker = Talker(greeting=b"")
    async with scripted(breaking(at_handshake, talker)) as hop, asyncio.timeout(5):
        answer = (await hand_over(replace(hop, tls=mode)))["a@x.test"]
    assert answer.taken is (mode == "opportunistic")
    assert answer.taken or (answer.code, answer.enhanced, answer.phase) == (451, "4.7.5", "connect")


@pytest.mark.parametrize("mode", ["required", "verified"])
async def test_replies_put_in_clear_behind_starttls_are_not_believed(mode: TlsMode) -> None:
    talker = Talker()
    behind = b"250-hop\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n"
    async with scripted(breaking(_stalls, talker, behind)) as hop:
        answer = (await hand_over(replace(hop, tls=mode)))["a@x.test"]
    assert (answer.code, answer.enhanced) == (451, "4.7.5")


@pytest.mark.parametrize("mode", MODES)
async def test_a_hop_that_refuses_starttls(mode: TlsMode) -> None:
    talker = Talker(EHLO=STARTTLS, STARTTLS="454 4.7.0 not now")
    async with scripted(talker) as hop:
        answer = (await hand_over(replace(hop, tls=mode)))["a@x.test"]
    assert told(answer) == ("250 dot" if mode == "opportunistic" else "451 connect")
    assert len(talker.connections) == 1
