"""One mail to the first hop that will speak: failover, TLS modes, time-outs, and what each recipient hears."""

import asyncio
import ssl
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.layers import NextHop
from syncd.nexthop import Answer, clean, deliver, in_order
from tests.certificates import server_context
from tests.nexthops import Mailbox, answers, real, scripted, silent
from tests.syncd.nexthop.sending import MESSAGE, QUICK, hand_over


async def test_delivers_byte_for_byte() -> None:
    mailbox = Mailbox()
    async with real(mailbox) as hop:
        answer = (await hand_over(hop))["a@x.test"]
    assert answer == Answer(250, "2.0.0", "taken", f"127.0.0.1:{hop.port}", "dot")
    assert mailbox.mails == [("ann@sender.test", ("a@x.test",), b"".join(MESSAGE))]


async def test_null_sender() -> None:
    mailbox = Mailbox()
    async with real(mailbox) as hop:
        await deliver([hop], "", ["a@x.test"], MESSAGE, hostname="mx1.test", timeouts=QUICK)
    assert mailbox.mails[0][0] in ("", "<>")


async def test_each_recipient_has_its_own_answer() -> None:
    mailbox = Mailbox(at_rcpt={"no@x.test": "550 5.1.1 nobody", "later@x.test": "450 4.2.0 wait"})
    async with real(mailbox) as hop:
        got = await hand_over(hop, to=("a@x.test", "no@x.test", "later@x.test", "a@x.test"))
    assert [(a.code, a.enhanced, a.phase) for a in got.values()] == [
        (250, "2.0.0", "dot"),
        (550, "5.1.1", "rcpt"),
        (450, "4.2.0", "rcpt"),
    ]
    assert mailbox.recipients() == ["a@x.test"]


@pytest.mark.parametrize(
    "preferred", [{"greeting": "421 busy"}, {"MAIL": "451 no"}, {"RCPT": "450 no"}, {"DATA": None}]
)
async def test_failover_before_anything_was_handed_over(preferred: dict[str, str | None]) -> None:
    mailbox = Mailbox()
    async with scripted(answers(**preferred)) as first, real(mailbox) as second:
        got = await hand_over(replace(second, preference=20), replace(first, preference=10))
    assert got["a@x.test"].taken
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize("preferred", [{"dot": None}, {"dot": "451 no"}, {"dot": "554 no"}, {"RCPT": "550 no"}])
async def test_no_failover_after_it(preferred: dict[str, str | None]) -> None:
    mailbox = Mailbox()
    async with scripted(answers(**preferred)) as first, real(mailbox) as second:
        got = await hand_over(replace(second, preference=20), replace(first, preference=10))
    assert not got["a@x.test"].taken
    assert mailbox.mails == []


HOSTILE: list[tuple[str, dict[str, str | None], int, str, bool]] = [
    ("hangs up at once", {"greeting": None}, 451, "connect", False),
    ("refuses at the greeting", {"greeting": "554 no"}, 554, "connect", False),
    ("hangs up at MAIL", {"MAIL": None}, 451, "mail", False),
    ("hangs up at RCPT", {"RCPT": None}, 451, "rcpt", False),
    ("closes at RCPT", {"RCPT": "421 4.3.2 closing"}, 421, "rcpt", False),
    ("refuses DATA", {"DATA": "554 5.5.0 no"}, 554, "data", False),
    ("hangs up at DATA", {"DATA": None}, 451, "data", False),
    ("hangs up after the dot", {"dot": None}, 451, "dot", True),
    ("talks nonsense", {"MAIL": "hello there"}, 451, "mail", False),
    ("talks nonsense after the dot", {"dot": "hello there"}, 451, "dot", True),
    ("answers with no known class", {"dot": "999 what"}, 451, "dot", True),
    ("says 354 to MAIL", {"MAIL": "354 go"}, 451, "mail", False),
    ("says 250 to DATA", {"DATA": "250 ok"}, 451, "data", False),
    ("says two lines", {"dot": "250-first\r\n250 second"}, 250, "dot", False),
    ("says too much", {"dot": "250-" + "x" * 60_000 + "\r\n250 ok"}, 451, "dot", True),
    ("knows no EHLO", {"EHLO": "502 no", "HELO": "250 hop"}, 250, "dot", False),
]


@pytest.mark.parametrize(("case", "said", "code", "phase", "unknown"), HOSTILE, ids=[case for case, *_ in HOSTILE])
async def test_hostile_hops(case: str, said: dict[str, str | None], code: int, phase: str, unknown: bool) -> None:
    async with scripted(answers(**said)) as hop:
        answer = (await hand_over(hop))["a@x.test"]
    assert (answer.code, answer.phase, answer.unknown) == (code, phase, unknown)
    assert answer.text.isprintable()


async def test_a_silent_hop_costs_no_more_than_its_bound() -> None:
    async with scripted(silent) as hop, asyncio.timeout(3):
        answer = (await hand_over(hop))["a@x.test"]
    assert (answer.code, answer.down, answer.answered) == (451, True, False)


async def test_a_hop_that_is_not_there() -> None:
    answer = (await hand_over(NextHop("127.0.0.1", 1)))["a@x.test"]
    assert (answer.code, answer.enhanced, answer.down) == (451, "4.4.1", True)


async def test_a_hop_that_says_no_is_not_down() -> None:
    async with scripted(answers(RCPT="450 4.2.0 greylisted")) as hop:
        assert not (await hand_over(hop))["a@x.test"].down


async def test_on_dot_is_awaited_before_the_message_leaves() -> None:
    mailbox = Mailbox()
    seen: list[int] = []

    async def on_dot() -> None:
        seen.append(len(mailbox.mails))

    async with real(mailbox) as hop:
        await hand_over(hop, on_dot=on_dot)
    assert (seen, len(mailbox.mails)) == ([0], 1)


async def test_on_dot_is_not_called_when_nothing_is_sent() -> None:
    async def on_dot() -> None:
        raise AssertionError("nothing was accepted")

    async with scripted(answers(RCPT="550 no")) as hop:
        await hand_over(hop, on_dot=on_dot)


@pytest.mark.parametrize(("mode", "taken"), [("opportunistic", True), ("required", True), ("verified", False)])
async def test_tls_modes_with_a_certificate_nobody_knows(mode: str, taken: bool, tmp_path: Path) -> None:
    mailbox = Mailbox()
    async with real(mailbox, tls=server_context(tmp_path)) as hop:
        answer = (await hand_over(replace(hop, tls=mode)))["a@x.test"]  # type: ignore[arg-type]
    assert answer.taken is taken
    assert mailbox.used_tls is taken


@pytest.mark.parametrize(("mode", "taken"), [("opportunistic", True), ("required", False), ("verified", False)])
async def test_tls_modes_without_tls(mode: str, taken: bool) -> None:
    mailbox = Mailbox()
    async with real(mailbox) as hop:
        answer = (await hand_over(replace(hop, tls=mode)))["a@x.test"]  # type: ignore[arg-type]
    assert answer.taken is taken
    assert taken or answer.enhanced == "4.7.5"


async def test_opportunistic_tls_that_breaks_goes_in_clear() -> None:
    mailbox = Mailbox()
    async with real(mailbox, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as hop:  # has no certificate
        assert (await hand_over(hop))["a@x.test"].taken
    assert not mailbox.used_tls


async def test_smtputf8_goes_only_where_it_is_offered() -> None:
    mailbox = Mailbox()
    async with real(mailbox) as hop:
        assert (await hand_over(hop, to=("jürg@x.test",), smtputf8=True))["jürg@x.test"].taken
    async with real(mailbox, smtputf8=False) as hop:
        answer = (await hand_over(hop, to=("jürg@x.test",), smtputf8=True))["jürg@x.test"]
    assert (answer.code, answer.enhanced) == (550, "5.6.7")


async def test_control_characters_in_an_address_are_the_callers_error() -> None:
    async with real(Mailbox()) as hop:
        with pytest.raises(ValueError):
            await hand_over(hop, to=("a@x.test>\r\nDATA",))


def test_order_of_hops() -> None:
    hops = [
        NextHop("c", preference=30),
        NextHop("a1", preference=10),
        NextHop("a2", preference=10),
        NextHop("b", preference=20),
    ]
    orders = {tuple(hop.host for hop in in_order(hops)) for _ in range(100)}
    assert orders == {("a1", "a2", "b", "c"), ("a2", "a1", "b", "c")}


def test_clean() -> None:
    assert clean("a\r\n250 evil\x00\x1b[31m é") == "a 250 evil [31m"
    assert len(clean("x" * 10_000)) == 300
