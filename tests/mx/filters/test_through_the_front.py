"""The declared filters through the front over sockets; DNS, lists and spool are simulated, the parser is in-process."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mx.checks import mime
from mx.filter import Message
from mx.filters import ORDER, decode, gtube
from syncd.layers import Entry
from tests.mx import neighbours
from tests.mx.checks.zone import Zone
from tests.mx.client import Client, mail
from tests.mx.filters.tables import Lists
from tests.mx.neighbours import HOSTNAME, Known, Running, running
from tests.nexthops import Mailbox, real

RECORDS: dict[str, list[Any]] = {
    "sender.test": [{"TXT": "v=spf1 ip4:127.0.0.0/8 -all"}],
    "forged.test": [{"TXT": "v=spf1 -all"}],
    "1.0.0.127.bl.test": [{"A": "127.0.0.2"}],
    "1.0.0.127.late.test": ["TIMEOUT"],
}


class InProcess:
    """The parser's own code without its child processes; counts what it was given."""

    parsed = 0

    async def parse(self, raw: bytes) -> Message:
        """The message, really taken apart."""
        InProcess.parsed += 1
        return mime.parse(raw)


@contextlib.asynccontextmanager
async def fleet(
    monkeypatch: pytest.MonkeyPatch, mailbox: Mailbox, settings: dict[str, Any], lists: Lists | None = None
) -> AsyncIterator[Running]:
    """One domain with these settings, and a next hop that takes everything."""
    monkeypatch.setattr(neighbours, "NoDns", lambda: Zone(RECORDS))
    monkeypatch.setattr(neighbours, "PlainParser", InProcess)
    monkeypatch.setattr(InProcess, "parsed", 0)
    async with real(mailbox) as hop:
        policy = Known("example.test", (hop,), decode(settings), lists or Lists())
        async with running([policy], filters=ORDER) as front:
            yield front


def on(**sections: dict[str, Any]) -> dict[str, Any]:
    return {name: {"mode": "on", **fields} for name, fields in sections.items()}


async def test_with_the_settings_at_first_any_mail_is_delivered_and_nobody_parses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mailbox = Mailbox()
    async with fleet(monkeypatch, mailbox, {}) as front, Client(front.port) as client:
        for sender in ("ann@sender.test", "x@forged.test", ""):
            reply = await client.send(mail(gtube.GTUBE), to=["bob@example.test"], sender=sender)
            assert reply.startswith("250 2.0.0")
    assert len(mailbox.mails) == 3
    assert InProcess.parsed == 0


REFUSED = [
    (on(content={"words": ["casino"]}), "casino", "ann@sender.test", "550 5.7.1 Message refused by", "content"),
    (on(gtube={}), gtube.GTUBE, "ann@sender.test", "550 5.7.1 This is the test message", "gtube"),
    (on(size={"max_bytes": 1000}), "x" * 1000, "ann@sender.test", "552 5.3.4 Message too big for", "size"),
    (on(spf={}), "x", "ann@forged.test", "550 5.7.23 SPF validation failed", "spf"),
    (on(dnsbl={"zones": [{"zone": "bl.test"}]}), "x", "", "550 5.7.1 Client address 127.0.0.1 is listed by", "dnsbl"),
    (on(helo={"unknown": "refuse"}), "x", "ann@sender.test", "550 5.5.4 Bad HELO name", "helo"),
    (on(headers={"no_date": "refuse"}), "x", "ann@sender.test", "550 5.6.0 Bad message header", "headers"),
    (on(headers={"no_date": "score", "points": 10}), "x", "ann@sender.test", "550 5.7.1 Message refused", "score"),
    (on(spf={}, content={"words": ["casino"]}), "casino", "ann@forged.test", "550 5.7.23", "spf"),
]


@pytest.mark.parametrize(("settings", "text", "sender", "reply", "by"), REFUSED, ids=[row[4] for row in REFUSED])
async def test_a_refusal_is_spoken_and_kept_with_its_filter(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], text: str, sender: str, reply: str, by: str
) -> None:
    mailbox = Mailbox()
    async with fleet(monkeypatch, mailbox, settings) as front, Client(front.port) as client:
        said = await client.send(mail(text), to=["bob@example.test"], sender=sender)
        assert said.startswith(reply)
        assert "/r/" in said
        record = front.spool.copies[0][0]
        assert record.recipients[0].reason == by
        assert record.recipients[0].text
    assert mailbox.mails == []


@pytest.mark.parametrize(
    ("settings", "sender", "field"),
    [
        (on(spf={}), "ann@sender.test", "spf=pass smtp.mailfrom=sender.test"),
        (on(spf={"fail": "off"}), "ann@forged.test", "spf=fail smtp.mailfrom=forged.test"),
        ({"spf": {"mode": "shadow"}}, "ann@forged.test", "spf=fail smtp.mailfrom=forged.test"),
        (on(spf={}), "", "spf=none smtp.helo=client.test"),
        ({}, "ann@sender.test", ""),
    ],
    ids=str,
)
async def test_delivered_mail_tells_what_spf_said_and_nothing_that_was_forged(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], sender: str, field: str
) -> None:
    mailbox = Mailbox()
    forged = f"Authentication-Results: {HOSTNAME}; spf=pass smtp.mailfrom=bank.test\r\n".encode()
    async with fleet(monkeypatch, mailbox, settings) as front, Client(front.port) as client:
        assert (await client.send(forged + mail("x"), to=["bob@example.test"], sender=sender)).startswith("250")
    content = mailbox.mails[0][2]
    ours = f"Authentication-Results: {HOSTNAME};\r\n\t{field}\r\n".encode()
    assert content.startswith(ours if field else b"Received: ")
    assert content.count(b"Authentication-Results") == bool(field)
    assert content.endswith(mail("x"))


async def test_what_is_kept_carries_the_field_for_its_release(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = on(spf={}, content={"words": ["casino"]})
    async with fleet(monkeypatch, Mailbox(), settings) as front, Client(front.port) as client:
        await client.send(mail("casino"), to=["bob@example.test"])
        trace = front.spool.copies[0][0].trace
    assert trace.startswith(
        f"Authentication-Results: {HOSTNAME};\r\n\tspf=pass smtp.mailfrom=sender.test\r\nReceived: "
    )


async def test_an_address_that_takes_no_mail_is_refused_at_rcpt_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = on(recipient_list={"refused": ["old*", "postmaster"]})
    async with fleet(monkeypatch, Mailbox(), settings) as front, Client(front.port) as client:
        await client.hello()
        await client.say("MAIL FROM:<ann@sender.test>")
        assert await client.say("RCPT TO:<old-shop@example.test>") == "550 5.2.1 This address does not take mail"
        assert await client.say('RCPT TO:<"old"@example.test>') == "550 5.2.1 This address does not take mail"
        assert (await client.say("RCPT TO:<bob@example.test>")).startswith("250")
        assert (await client.say("RCPT TO:<postmaster@example.test>")).startswith("250"), "no list refuses it"
        await client.say("RSET")
        assert front.spool.copies == []


async def test_an_allow_entry_passes_what_can_be_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = on(content={"words": ["casino"]}, gtube={}, dnsbl={"zones": [{"zone": "bl.test"}]})
    settings["refusal"] = {"early": ["dnsbl"]}
    lists = Lists({("domain", "ann@sender.test"): Entry("e1", "allow", "ann@sender.test")})
    async with fleet(monkeypatch, Mailbox(), settings, lists) as front, Client(front.port) as client:
        assert (await client.send(mail("casino"), to=["bob@example.test"])).startswith("250")
        assert (await client.send(mail(gtube.GTUBE), to=["bob@example.test"])).startswith("550"), "not the test mail"
        await client.say("MAIL FROM:<bob@sender.test>")
        assert (await client.say("RCPT TO:<bob@example.test>")).startswith("550 5.7.1 Client address"), "early"


async def test_a_denied_sender_is_kept_and_a_list_that_is_not_here_defers(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = Lists({("system", "sender.test"): Entry("e1", "deny", "sender.test")})
    async with fleet(monkeypatch, Mailbox(), {}, lists) as front, Client(front.port) as client:
        reply = await client.send(mail("x"), to=["bob@example.test"])
        assert reply.startswith("550 5.7.1 Sender or client is not accepted")
        assert front.spool.kept() == [("bob@example.test", mail("x"))]
        lists.absent = ("account",)
        reply = await client.send(mail("x"), to=["bob@example.test"], sender="ann@other.test")
        assert reply.startswith("451 4.7.1"), "a missing list is neither yes nor no"


async def test_a_list_in_dns_that_does_not_answer_lets_the_mail_pass_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = on(dnsbl={"zones": [{"zone": "late.test"}]})
    async with fleet(monkeypatch, Mailbox(), settings) as front, Client(front.port) as client:
        assert (await client.send(mail("x"), to=["bob@example.test"])).startswith("250")
        judgement = next(one for one in front.spool.events[0].judgements[0] if one.filter == "dnsbl")
    assert (judgement.action, judgement.reason) == ("unsure", "No answer from late.test")
