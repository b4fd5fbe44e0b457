"""Commands and addresses: what the stock class of aiosmtpd 1.4.6 takes and ours does not, or the other way round."""

import pytest

from tests.mx.client import Client
from tests.mx.neighbours import Known, running, sections
from tests.mx.stock import Taking, stock
from tests.nexthops import Mailbox, real

HTTP = b"POST / HTTP/1.1\r\nHost: mx\r\n\r\nEHLO c\r\nMAIL FROM:<evil@b.test>\r\nQUIT\r\n"
NOISE = b"\x1b]0;evil\x07 x\r\nEHLO c\r\nMAIL FROM:<evil@b.test>\r\nQUIT\r\n"


async def _said(port: int, data: bytes) -> list[str]:
    async with Client(port) as client:
        client.write(data)
        return await client.rest()


async def test_stock_echoes_noise_raw_and_obeys_what_follows_it() -> None:
    handler = Taking()
    async with stock(handler) as port:
        assert (await _said(port, NOISE))[0] == '500 Error: command "\x1b]0;EVIL\x07" not recognized'
        await _said(port, HTTP)
    assert handler.senders == ["evil@b.test"] * 2


@pytest.mark.parametrize(
    "data", [HTTP, NOISE, b"\x16\x03\x01\x02\x00\x01\r\nEHLO c\r\n", b"\0" * 5000 + b"\r\nNOOP\r\n"]
)
async def test_ours_says_one_clean_line_and_closes(data: bytes) -> None:
    async with running([Known("strict.test", (), sections())]) as front:
        assert await _said(front.port, data) == ["554 5.5.1 This is an SMTP server"]


SENDERS = [
    (b"<a\0b@x.test>", "501 5.5.2"),
    (b"<a\x1bb@x.test>", "501 5.5.2"),
    (b"<a\rb@x.test>", "501 5.5.2"),
    (b'<"a@x.test>', "553 5.1.3"),
    (b"<" + b"a" * 300 + b"@x.test>", "553 5.1.3"),
    (b"<a b@x.test>", "553 5.1.3"),
    (b"<a..b@x.test>", "553 5.1.3"),
    (b"a@x.test", "501 5.5.2"),
]


@pytest.mark.parametrize(("sender", "refusal"), SENDERS)
async def test_senders_that_stock_takes(sender: bytes, refusal: str) -> None:
    for server, begins in ((stock(Taking()), "250"), (running([]), refusal)):
        async with server as started, Client(started if isinstance(started, int) else started.port) as client:
            await client.hello()
            reply = await client.say(b"MAIL FROM:" + sender)
            assert reply.startswith(begins)
            assert reply.isprintable()


async def _offered(port: int) -> set[str]:
    async with Client(port) as client:
        client.write(b"EHLO c\r\nQUIT\r\n")
        return {line[4:].split(" ")[0] for line in await client.rest() if line.startswith("250")}


async def test_extensions() -> None:
    ours = {"PIPELINING", "ENHANCEDSTATUSCODES", "SIZE", "8BITMIME", "SMTPUTF8", "LIMITS"}
    async with stock(Taking()) as port:
        assert await _offered(port) & ours == {"SIZE", "8BITMIME"}
    async with running([]) as front:
        offered = await _offered(front.port)
    assert offered - {"mx1.mxfleet.test"} == ours
    assert "CHUNKING" not in offered


@pytest.mark.parametrize(
    ("parameters", "reply"),
    [
        ("RET=HDRS", "555 5.5.4"),
        ("ENVID=1", "555 5.5.4"),
        ("AUTH=<>", "555 5.5.4"),
        ("MT-PRIORITY=3", "555 5.5.4"),
        ("BODY=BINARYMIME", "501 5.5.4"),
        ("SMTPUTF8 BODY=8BITMIME SIZE=100", "250 2.1.0"),
    ],
)
async def test_parameters_of_mail_carry_enhanced_codes(parameters: str, reply: str) -> None:
    async with stock(Taking()) as port, Client(port) as client:
        await client.hello()
        assert not (await client.say(f"MAIL FROM:<a@x.test> {parameters}")).startswith(reply)
    async with running([]) as front, Client(front.port) as client:
        await client.hello()
        assert (await client.say(f"MAIL FROM:<a@x.test> {parameters}")).startswith(reply)


async def test_internationalised_mail_end_to_end() -> None:
    sender, recipient = "jürg@bücher.test", "é@strict.test"
    message = "Subject: é\r\n\r\nGrüße\r\n".encode()
    async with stock(Taking()) as port, Client(port) as client:
        await client.hello()
        assert (await client.say(f"MAIL FROM:<{sender}> SMTPUTF8")).startswith("500 Error: strict ASCII mode")
    mailbox = Mailbox()
    async with (
        real(mailbox) as hop,
        running([Known("strict.test", (hop,), sections())]) as front,
        Client(front.port) as client,
    ):
        await client.hello()
        assert (await client.say(f"MAIL FROM:<{sender}> SMTPUTF8 BODY=8BITMIME")).startswith("250")
        assert (await client.say(f"RCPT TO:<{recipient}>")).startswith("250")
        assert (await client.say("DATA")).startswith("354")
        client.write(message + b".\r\n")
        assert (await client.reply()).startswith("250")
    taken_from, taken_for, content = mailbox.mails[0]
    assert (taken_from, taken_for) == ("jürg@xn--bcher-kva.test", (recipient,))
    assert content.endswith(message)
    assert b" with UTF8SMTP id " in content
