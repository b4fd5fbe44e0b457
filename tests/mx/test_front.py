"""The front over sockets with in-memory neighbours: outcomes, order of copies, walls, shielding."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator

import pytest

from mx.filter import Verdict
from mx.filters.sections import Delivery
from syncd.layers import NextHop
from syncd.spool.record import Kind, Outcome
from tests.mx.client import Client, mail, until
from tests.mx.neighbours import FILTERS, Known, ListedOnly, Running, Words, running, sections
from tests.nexthops import Mailbox, answers, real, scripted, silent

DOWN = NextHop("127.0.0.1", 1)


@contextlib.asynccontextmanager
async def fleet(mailbox: Mailbox, **options: object) -> AsyncIterator[Running]:
    """The front with one domain per behaviour."""
    async with real(mailbox) as hop:
        keep = sections(delivery=Delivery(keep_when_down=True))
        policies = [
            Known("open.test", (hop,), sections("off")),
            Known("strict.test", (hop,), sections()),
            Known("shadow.test", (hop,), sections("shadow")),
            Known("listed.test", (hop,), sections(), ListedOnly(frozenset({"known"}))),
            Known("down.test", (DOWN,), sections()),
            Known("keep.test", (DOWN,), keep),
            Known("nohop.test", (), sections()),
        ]
        async with running(policies, **options) as front:  # type: ignore[arg-type]
            yield front


async def test_what_passes_is_delivered_behind_our_received_field() -> None:
    mailbox = Mailbox()
    async with fleet(mailbox) as front, Client(front.port) as client:
        reply = await client.send(mail("hello"), to=["a@strict.test"])
    assert reply.startswith("250 2.0.0 Ok: ")
    sender, recipients, content = mailbox.mails[0]
    assert (sender, recipients) == ("ann@sender.test", ("a@strict.test",))
    assert content.endswith(mail("hello"))
    trace = content[: -len(mail("hello"))].decode()
    assert trace.startswith(
        "Received: from client.test ([127.0.0.1])\r\n\tby mx1.mxfleet.test (mxfleet) with ESMTP id "
    )
    assert "\r\n\tfor <a@strict.test>;\r\n" in trace
    assert reply.split()[-1] in trace


async def test_out_of_rotation_new_sessions_are_sent_away_and_open_ones_finish() -> None:
    mailbox = Mailbox()
    async with fleet(mailbox) as front, Client(front.port) as early:
        front.policies.in_rotation = False
        async with Client(front.port) as late:
            assert late.banner.startswith("421 4.3.2 ")
            assert await late.rest() == []
        assert (await early.send(mail("hello"), to=["a@strict.test"])).startswith("250 2.0.0 Ok: ")
        front.policies.in_rotation = True
        async with Client(front.port) as back:
            assert back.banner.startswith("220 ")
    assert len(mailbox.mails) == 1


async def test_what_is_refused_is_kept_before_the_5xx_and_names_the_page() -> None:
    mailbox = Mailbox()
    async with fleet(mailbox) as front, Client(front.port) as client:
        reply = await client.send(mail("refuse-me"), to=["a@strict.test"])
        assert front.spool.kept() == [("a@strict.test", mail("refuse-me"))]
        record = front.spool.copies[0][0]
        assert reply == f"550 5.7.1 Message refused by the recipient's policy https://panel.test/r/{record.id}"
        assert record.reply == reply
        judgements = record.judgements[record.recipients[0].judgements]
        assert [(one.filter, one.action, one.acted) for one in judgements] == [
            ("friend", "pass", False),
            ("early", "pass", False),
            ("words", "refuse", True),
        ]
        assert judgements[2].evidence == {"word": "refuse-me"}
        assert (record.recipients[0].reason, record.recipients[0].revision) == ("words", 7)
        assert (record.subject, record.header_from) == ("refuse-me", "Ann <ann@sender.test>")
        assert ("C", "RCPT TO:<a@strict.test>") in [(who, line) for _, who, line in record.dialogue]
    assert mailbox.mails == []


@pytest.mark.parametrize(
    ("text", "sender", "to", "reply", "outcomes"),
    [
        ("hello", "ann@sender.test", ["a@strict.test"], "250", ["delivered"]),
        ("hello", "ann@sender.test", ["a@strict.test", "b@open.test"], "250", ["delivered", "delivered"]),
        ("refuse-me", "ann@sender.test", ["a@strict.test"], "550 5.7.1", ["kept"]),
        ("refuse-me", "friend@sender.test", ["a@strict.test"], "250", ["delivered"]),
        ("refuse-me", "ann@sender.test", ["a@shadow.test"], "250", ["delivered"]),
        ("refuse-me", "ann@sender.test", ["a@strict.test", "b@strict.test"], "550 5.7.1", ["kept", "kept"]),
        ("refuse-me", "ann@sender.test", ["a@strict.test", "b@open.test"], "250", ["kept", "delivered"]),
        ("refuse-me", "ann@sender.test", ["a@strict.test", "b@down.test"], "550 5.7.1", ["kept", "kept"]),
        ("hold-me", "ann@sender.test", ["a@strict.test"], "250", ["kept"]),
        ("hold-me", "ann@sender.test", ["a@strict.test", "b@open.test"], "250", ["kept", "delivered"]),
        ("defer-me", "ann@sender.test", ["a@strict.test"], "451 4.7.1", ["deferred"]),
        ("defer-me", "ann@sender.test", ["a@strict.test", "b@open.test"], "250", ["later", "delivered"]),
        ("hello", "ann@sender.test", ["a@down.test"], "451 4.4.1", ["deferred"]),
        ("hello", "ann@sender.test", ["a@down.test", "b@open.test"], "250", ["later", "delivered"]),
        ("hello", "ann@sender.test", ["a@keep.test"], "250", ["later"]),
        ("hello", "ann@sender.test", ["a@keep.test", "b@down.test"], "451 4.4.1", ["deferred", "deferred"]),
        ("hello", "ann@sender.test", ["a@nohop.test"], "451 4.3.5", ["deferred"]),
        ("score-20", "ann@sender.test", ["a@strict.test"], "550 5.7.1", ["kept"]),
        ("score-7", "ann@sender.test", ["a@strict.test"], "250", ["delivered"]),
        ("break-the-look", "ann@sender.test", ["a@strict.test"], "250", ["delivered"]),
        ("break-the-judge", "ann@sender.test", ["a@strict.test"], "250", ["delivered"]),
    ],
)
async def test_outcomes(text: str, sender: str, to: list[str], reply: str, outcomes: list[str]) -> None:
    mailbox = Mailbox()
    async with fleet(mailbox) as front:
        async with Client(front.port) as client:
            said = await client.send(mail(text), to=to, sender=sender)
        assert said.startswith(reply)
        assert front.ledger.drift == 0
        assert front.ledger.in_flight == 0
        assert not front.spool.open
        told = [one for record, _ in front.spool.copies for one in record.recipients]
        told += [one for record in front.spool.events for one in record.recipients]
        assert [one.outcome.value for one in sorted(told, key=lambda one: one.n)] == outcomes
        assert sorted(mailbox.recipients()) == sorted(one.address for one in told if one.outcome is Outcome.DELIVERED)
        for record, body in front.spool.copies:
            assert body == mail(text)
            assert record.kind.value == record.recipients[0].outcome.value


async def test_two_domains_with_one_next_hop_travel_together_and_tags_apart() -> None:
    mailbox = Mailbox()
    async with fleet(mailbox) as front, Client(front.port) as client:
        await client.send(mail("hello"), to=["a@strict.test", "b@open.test"])
        await client.send(mail("tag-me"), to=["a@strict.test", "b@open.test"])
    assert len(mailbox.mails) == 3
    assert mailbox.mails[0][1] == ("a@strict.test", "b@open.test")
    assert b"for <" not in mailbox.mails[0][2].split(b"\r\n\r\n")[0]
    tagged = {recipients: content for _, recipients, content in mailbox.mails[1:]}
    assert b"\r\nSubject: [SPAM?] tag-me\r\n" in tagged[("a@strict.test",)]
    assert tagged[("b@open.test",)].endswith(mail("tag-me"))


async def test_without_a_second_copy_the_answer_is_451_and_nothing_is_relayed() -> None:
    mailbox = Mailbox()
    async with fleet(mailbox) as front, Client(front.port) as client:
        front.spool.is_away = True
        assert (await client.send(mail("refuse-me"), to=["a@strict.test"])).startswith("451 4.3.0 Cannot store")
        reply = await client.send(mail("refuse-me"), to=["a@strict.test", "b@open.test"])
        assert reply.startswith("451 4.3.0 Cannot store")
        assert mailbox.mails == []
        assert (await client.send(mail("hello"), to=["a@strict.test"])).startswith("250")
        assert front.ledger.drift == 0


@pytest.mark.parametrize(
    ("at_rcpt", "after_dot", "reply", "outcome", "reason"),
    [
        ("550 5.1.1 no such user", "250 ok", "550 5.1.1 no such user", "refused", "unknown_user"),
        ("550 5.7.1 go away", "250 ok", "550 5.7.1 go away https://panel.test/r/", "kept", "next_hop"),
        ("450 4.2.0 greylisted", "250 ok", "450 4.2.0 greylisted", "deferred", "next_hop"),
        ("250 ok", "554 5.6.0 bad content", "554 5.6.0 bad content https://panel.test/r/", "kept", "next_hop"),
        ("250 ok", "452 4.3.1 disk full", "452 4.3.1 disk full", "deferred", "next_hop"),
    ],
)
async def test_the_next_hops_answer_is_passed_on(
    at_rcpt: str, after_dot: str, reply: str, outcome: str, reason: str
) -> None:
    mailbox = Mailbox(at_rcpt={"a@strict.test": at_rcpt}, after_dot=after_dot)
    async with fleet(mailbox) as front, Client(front.port) as client:
        assert (await client.send(mail("hello"), to=["a@strict.test"])).startswith(reply)
        records = [record for record, _ in front.spool.copies] + front.spool.events
        assert [(one.outcome.value, one.reason) for one in records[0].recipients] == [(outcome, reason)]


async def test_an_unknown_user_is_remembered_and_refused_at_rcpt_next_time() -> None:
    mailbox = Mailbox(at_rcpt={"gone@strict.test": "550 5.1.1 no such user"})
    async with fleet(mailbox) as front, Client(front.port) as client:
        await client.send(mail("hello"), to=["gone@strict.test"])
        await client.hello()
        await client.say("MAIL FROM:<ann@sender.test>")
        assert await client.say("RCPT TO:<gone@strict.test>") == "550 5.1.1 No such recipient here"


async def test_in_a_mixture_an_unknown_user_is_kept_because_the_sender_hears_250() -> None:
    mailbox = Mailbox(at_rcpt={"gone@strict.test": "550 5.1.1 no such user"})
    async with fleet(mailbox) as front, Client(front.port) as client:
        assert (await client.send(mail("hello"), to=["a@strict.test", "gone@strict.test"])).startswith("250")
        assert front.spool.kept() == [("gone@strict.test", mail("hello"))]


async def test_a_dialogue_cut_after_the_dot_is_451() -> None:
    async with scripted(answers(dot=None)) as hop, running([Known("cut.test", (hop,), sections())]) as front:
        async with Client(front.port) as client:
            assert (await client.send(mail("hello"), to=["a@cut.test"])).startswith("451 4.4.2")
        assert front.spool.events[0].recipients[0].outcome is Outcome.DEFERRED


async def test_a_next_hop_that_says_nothing_costs_the_bound_and_451() -> None:
    async with (
        scripted(silent) as hop,
        running([Known("mute.test", (hop,), sections())]) as front,
        Client(front.port) as client,
    ):
        assert (await client.send(mail("hello"), to=["a@mute.test"])).startswith("451 4.4.1")


async def test_a_client_that_leaves_after_its_dot_stops_nothing() -> None:
    mailbox = Mailbox()
    async with fleet(mailbox) as front:
        client = Client(front.port)
        await client.open()
        await client.hello()
        for command in ("MAIL FROM:<ann@sender.test>", "RCPT TO:<a@strict.test>", "DATA"):
            await client.say(command)
        client.write(mail("hello") + b".\r\n")
        client.reset()
        await until(lambda: bool(mailbox.mails) and front.ledger.in_flight == 0)
        assert front.spool.events[0].recipients[0].outcome is Outcome.DELIVERED
        assert front.ledger.drift == 0


async def test_a_half_closed_client_still_gets_its_reply() -> None:
    mailbox = Mailbox()
    async with fleet(mailbox) as front, Client(front.port) as client:
        client.write(b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@strict.test>\r\nDATA\r\n")
        client.write(mail("hello") + b".\r\n")
        client.half_close()
        lines = await client.rest()
        assert lines[-1].startswith("250 2.0.0 Ok:")


async def test_an_abandoned_transaction_is_an_outcome() -> None:
    async with fleet(Mailbox()) as front:
        async with Client(front.port) as client:
            await client.hello()
            await client.say("MAIL FROM:<ann@sender.test>")
            await client.say("RCPT TO:<a@strict.test>")
            await client.say("RSET")
            assert [one.outcome for one in front.spool.events[0].recipients] == [Outcome.ABANDONED]
            await client.say("MAIL FROM:<ann@sender.test>")
            await client.say("RCPT TO:<a@strict.test>")
            client.reset()
        await until(lambda: len(front.spool.events) == 2)
        assert (front.ledger.drift, front.ledger.in_flight) == (0, 0)


async def test_an_exception_in_a_session_is_451_without_detail_and_resets() -> None:
    async with fleet(Mailbox()) as front, Client(front.port) as client:
        await client.hello()
        await client.say("MAIL FROM:<ann@sender.test>")
        await client.say("RCPT TO:<a@strict.test>")
        assert await client.say("RCPT TO:<a@broken.test>") == "451 4.3.0 Try again later"
        assert await client.say("DATA") == "503 5.5.1 MAIL first"
        assert (front.ledger.drift, front.ledger.in_flight) == (0, 0)


async def test_a_refusal_at_rcpt_is_an_event_and_not_in_the_ledger() -> None:
    async with fleet(Mailbox()) as front, Client(front.port) as client:
        await client.hello()
        await client.say("MAIL FROM:<ann@sender.test>")
        assert await client.say("RCPT TO:<early-bird@strict.test>") == "550 5.7.1 Not at this address"
        assert await client.say("RCPT TO:<nobody@listed.test>") == "550 5.1.1 No such recipient here"
        assert await client.say("RCPT TO:<postmaster@listed.test>") == "250 2.1.5 Recipient ok"
        assert await client.say("RCPT TO:<x@elsewhere.test>") == "550 5.7.1 Relaying denied"
        assert (await client.say("RCPT TO:<x@unsynced.test>")).startswith("451 4.3.2")
        await client.say("RSET")
        told = [(one.address, one.outcome.value, one.reason) for one in front.spool.events[0].recipients]
        assert told == [
            ("postmaster@listed.test", "abandoned", "abandoned"),
            ("early-bird@strict.test", "refused", "early"),
            ("nobody@listed.test", "refused", "unknown_user"),
            ("x@elsewhere.test", "refused", "relaying"),
            ("x@unsynced.test", "deferred", "not_known"),
        ]
        assert front.ledger.drift == 0


async def test_bare_newlines_can_be_normalised_and_then_never_reach_the_next_hop_as_they_are() -> None:
    mailbox = Mailbox()
    async with fleet(mailbox, bare_newlines="normalise") as front, Client(front.port) as client:
        evil = b"Subject: x\r\n\r\nfirst\n.\r\nMAIL FROM:<evil@x.test>\r\n\rlast\r\n"
        assert (await client.send(evil, to=["a@open.test"])).startswith("250")
    assert mailbox.mails[0][2].endswith(b"first\r\n.\r\nMAIL FROM:<evil@x.test>\r\n\r\nlast\r\n")


async def test_later_mail_carries_our_trace_for_the_delivery() -> None:
    async with fleet(Mailbox()) as front, Client(front.port) as client:
        await client.send(mail("hello"), to=["a@keep.test"])
        record, body = front.spool.copies[0]
        assert record.kind is Kind.LATER
        assert record.trace.startswith("Received: from client.test")
        assert body == mail("hello")


async def test_a_header_without_end_is_refused_before_anybody_reads_it() -> None:
    mailbox = Mailbox()
    async with fleet(mailbox) as front, Client(front.port) as client:
        reply = await client.send(b"a: b\r\n" * 100_000, to=["a@strict.test"])
        assert reply == "552 5.3.4 Message header too big"
        assert (await client.send(mail("hello"), to=["a@strict.test"])).startswith("250")
        assert front.ledger.drift == 0
    assert len(mailbox.mails) == 1


async def test_recipients_of_one_domain_are_judged_once_and_each_gets_its_verdict() -> None:
    judged = []

    def counting(facts: bytes, settings: Words) -> Verdict:
        judged.append(facts)
        return words.judge(facts, settings)

    words = FILTERS[2]
    filters = (*FILTERS[:2], dataclasses.replace(words, judge=counting))
    async with fleet(Mailbox(), filters=filters) as front, Client(front.port) as client:
        to = [f"u{number}@strict.test" for number in range(5)] + ["other@shadow.test"]
        assert (await client.send(mail("refuse-me"), to=to)).startswith("250")
        assert len(judged) == 2
        record = front.spool.copies[0][0]
        assert [one.address for one in record.recipients] == to[:5]
        assert (await client.send(mail("hello"), to=["u1@strict.test"])).startswith("250")
        assert len(judged) == 3
