"""What every proper next hop takes from us, whoever wrote it: aiosmtpd in Python, Postfix in C."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.layers import NextHop
from syncd.nexthop import Pool
from tests import postfix
from tests.certificates import self_signed, server_context
from tests.nexthops import Mailbox, real
from tests.syncd.nexthop.sending import PATIENT, hand_over, told, until

HEAD = (
    b"From: ann@sender.test\r\nTo: a@x.test\r\nSubject: conformance\r\nMessage-ID: <%d@sender.test>\r\n"
    b"Date: Wed, 25 Nov 2026 03:00:00 +0000\r\n\r\n"
)

BODIES = {
    "plain": b"hello\r\n",
    "empty": b"",
    "no line end": b"hello",
    "dots": b".\r\n..\r\n...\r\n.x\r\n\r\n.\r\n",
    "8-bit": "grüße\r\n".encode() + bytes(range(128, 256)) + b"\r\n",
    "long line": b"x" * 1500 + b"\r\n",
    "two megabytes": b"." * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 28_000,
}


@dataclass
class Target:
    """A next hop, and what it has taken."""

    hop: NextHop
    bodies: Callable[[], list[bytes]]


@pytest.fixture(scope="session")
def postfix_server() -> Iterator[postfix.Postfix]:
    """One Postfix for the session."""
    directory = Path(tempfile.mkdtemp(prefix="mxf", dir="/tmp"))
    directory.chmod(0o755)
    try:
        yield from postfix.running(directory, *self_signed(directory, "postfix.test"))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["aiosmtpd", "postfix"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Target]:
    """Each implementation in turn."""
    if request.param == "postfix":
        server: postfix.Postfix = request.getfixturevalue("postfix_server")
        yield Target(NextHop("127.0.0.1", server.port), lambda: server.mails)
        return
    mailbox = Mailbox(at_rcpt={f"{postfix.REFUSED}@x.test": "550 5.1.1 no such user"})
    async with real(mailbox, tls=server_context(tmp_path)) as hop:
        yield Target(hop, lambda: [content.replace(b"\r\n", b"\n") for _, _, content in mailbox.mails])


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    """A pool of the test's own."""
    async with Pool() as made:
        yield made


_numbers = iter(range(10**6))


def mail(body: bytes) -> tuple[bytes, bytes]:
    """(header of a mail that occurs once, body)."""
    return HEAD % next(_numbers), body


async def arrives(target: Target, message: tuple[bytes, bytes], copies: int = 1) -> None:
    """Wait until the mail is there, whole, so many times."""
    wanted = (b"".join(message) + (b"" if message[1].endswith(b"\r\n") or not message[1] else b"\r\n")).replace(
        b"\r\n", b"\n"
    )
    await until(lambda: sum(got.endswith(wanted) for got in target.bodies()) >= copies)
    assert sum(message[0].replace(b"\r\n", b"\n") in got for got in target.bodies()) == copies


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("tls", ["opportunistic", "required"])
async def test_delivers_byte_for_byte(target: Target, pool: Pool, body: str, tls: str) -> None:
    message = mail(BODIES[body])
    hop = replace(target.hop, tls=tls)
    answer = (await hand_over(hop, message=message, eight_bit=body == "8-bit", timeouts=PATIENT, pool=pool))["a@x.test"]
    assert told(answer) == "250 dot"
    await arrives(target, message)


async def test_many_mails_over_one_connection(target: Target) -> None:
    counted: list[str] = []
    messages = [mail(body) for body in BODIES.values()]
    async with Pool(count=counted.append) as pool:
        for message in messages:
            assert (await hand_over(target.hop, message=message, timeouts=PATIENT, pool=pool))["a@x.test"].taken
    assert counted == ["opened"] + ["reused"] * (len(messages) - 1)
    for message in messages:
        await arrives(target, message)


async def test_a_refused_recipient_keeps_nobody_else_from_the_mail(target: Target, pool: Pool) -> None:
    message = mail(b"for some\r\n")
    got = await hand_over(
        target.hop, to=("a@x.test", "nobody@x.test", "b@x.test"), message=message, timeouts=PATIENT, pool=pool
    )
    assert [told(answer) for answer in got.values()] == ["250 dot", "550 rcpt", "250 dot"]
    assert got["nobody@x.test"].enhanced == "5.1.1"
    await until(lambda: any(message[0].replace(b"\r\n", b"\n") in body for body in target.bodies()))


async def test_after_nobody_was_taken_the_connection_takes_the_next_mail(target: Target) -> None:
    counted: list[str] = []
    message = mail(b"after it\r\n")
    async with Pool(count=counted.append) as pool:
        for _ in range(2):
            refused = await hand_over(target.hop, to=("nobody@x.test",), message=mail(b""), timeouts=PATIENT, pool=pool)
            assert told(refused["nobody@x.test"]) == "550 rcpt"
        assert (await hand_over(target.hop, message=message, timeouts=PATIENT, pool=pool))["a@x.test"].taken
    await arrives(target, message)
    assert counted == ["opened", "reused", "reused"]


async def test_addresses_of_every_kind(target: Target, pool: Pool) -> None:
    message = mail(b"quoted\r\n")
    got = await hand_over(target.hop, to=('"q p"@x.test',), message=message, timeouts=PATIENT, pool=pool)
    assert got['"q p"@x.test'].taken
    await arrives(target, message)
    message = mail("jürg\r\n".encode())
    got = await hand_over(
        target.hop, to=("jürg@x.test",), message=message, smtputf8=True, eight_bit=True, timeouts=PATIENT, pool=pool
    )
    assert got["jürg@x.test"].taken
    await arrives(target, message)


async def test_fifty_at_once_arrive_once_each(target: Target, pool: Pool) -> None:
    messages = [mail(b"mail %d\r\n" % n) for n in range(50)]
    got = await asyncio.gather(
        *(hand_over(target.hop, message=message, timeouts=PATIENT, pool=pool) for message in messages)
    )
    assert all(answers["a@x.test"].taken for answers in got)
    for message in messages:
        await arrives(target, message)


async def test_a_message_too_large_for_postfix_is_not_sent(postfix_server: postfix.Postfix, pool: Pool) -> None:
    hop = NextHop("127.0.0.1", postfix_server.port)
    answer = (await hand_over(hop, message=(b"x" * 70 + b"\r\n",) * 50_000, timeouts=PATIENT, pool=pool))["a@x.test"]
    assert (answer.code, answer.enhanced, answer.phase) == (552, "5.3.4", "mail")
