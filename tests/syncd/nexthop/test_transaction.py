"""The dialogue of one mail, as tables: what the hop says to each command, and what every recipient hears."""

import itertools
from collections.abc import Sequence

import pytest

from syncd.nexthop.mail import mail
from syncd.nexthop.opening import Offers
from syncd.nexthop.reply import Reply
from syncd.nexthop.transaction import After, Transaction, Turn

PIPELINED = Offers(pipelining=True)
STEP = Offers()
COMMANDS = "MAIL FROM:<s@x>|RCPT TO:<a@x>|RCPT TO:<b@x>|DATA|"

CASES: list[tuple[str, str, str, str, After]] = [
    # case, replies (a dash: the connection is lost), code and phase of a, of b, what becomes of the connection
    ("both taken", "250 250 250 354 dot 250", "250 dot", "250 dot", After.KEEP),
    ("refused after the dot", "250 250 250 354 dot 554", "554 dot", "554 dot", After.KEEP),
    ("one refused", "250 250 550 354 dot 250", "250 dot", "550 rcpt", After.KEEP),
    ("one not now", "250 450 250 354 dot 250", "450 rcpt", "250 dot", After.KEEP),
    ("MAIL refused", "550 503 503 503", "550 mail", "550 mail", After.KEEP),
    ("nobody accepted", "250 550 450 554", "550 rcpt", "450 rcpt", After.KEEP),
    ("DATA refused", "250 250 550 451", "451 data", "550 rcpt", After.KEEP),
    ("lost at once", "-", "451? mail", "451? mail", After.ABORT),
    ("lost among recipients", "250 550 -", "451? rcpt", "451? rcpt", After.ABORT),
    ("lost at DATA", "250 250 550 -", "451? data", "550 rcpt", After.ABORT),
    ("lost after the dot", "250 250 550 354 dot -", "451?? dot", "550 rcpt", After.ABORT),
    ("lost while the message leaves", "250 250 550 354 message -", "451? dot", "550 rcpt", After.ABORT),
    ("refused while the message leaves", "250 250 250 354 message 552", "552 dot", "552 dot", After.ABORT),
    ("a yes before the dot", "250 250 250 354 message 250", "451?? dot", "451?? dot", After.ABORT),
    ("closing at MAIL", "421", "421 mail", "421 mail", After.ABORT),
    ("closing among recipients", "250 250 421", "421 rcpt", "421 rcpt", After.ABORT),
    ("closing at DATA", "250 250 550 421", "421 data", "550 rcpt", After.ABORT),
    ("closing after the dot", "250 250 550 354 dot 421", "421 dot", "550 rcpt", After.ABORT),
    ("354 to MAIL", "354", "451? mail", "451? mail", After.ABORT),
    ("354 to RCPT", "250 354", "451? rcpt", "451? rcpt", After.ABORT),
    ("250 to DATA", "250 250 250 250", "451? data", "451? data", After.ABORT),
    ("another 3xx to DATA", "250 250 250 334", "451? data", "451? data", After.ABORT),
    ("354 after the dot", "250 250 250 354 dot 354", "451?? dot", "451?? dot", After.ABORT),
]

PIPELINED_CASES: list[tuple[str, str, str, str, After]] = [
    ("354 though nobody was accepted", "250 550 450 354 250", "550 rcpt", "450 rcpt", After.QUIT),
    ("354, then no to the lone dot", "250 550 450 354 503", "550 rcpt", "450 rcpt", After.QUIT),
    ("354, then nothing to the lone dot", "250 550 450 354 -", "550 rcpt", "450 rcpt", After.ABORT),
    ("354 though MAIL was refused", "550 503 503 354 250", "550 mail", "550 mail", After.QUIT),
    ("recipients and 354 though MAIL was refused", "550 250 250 354", "550 mail", "550 mail", After.ABORT),
    ("lost after MAIL was refused", "550 -", "550 mail", "550 mail", After.ABORT),
    ("one reply too many in front", "250 250 250 250", "451? data", "451? data", After.ABORT),
    ("one reply too few", "250 250 354", "451? rcpt", "451? rcpt", After.ABORT),
]


def play(transaction: Transaction, script: str) -> list[str]:
    """Play what the hop says to the transaction; what we said to it, command by command."""
    said = [transaction.begin()]
    for word in script.split():
        if word in ("dot", "message"):
            assert transaction.turn is Turn.SEND
            transaction.sending()
            if word == "dot":
                transaction.sent()
        elif word == "-":
            transaction.lost("gone")
        else:
            said.append(transaction.heard(Reply(int(word), (b"text",))))
    return [line for line in b"".join(said).decode().split("\r\n") if line]


def told(transaction: Transaction, recipient: str) -> str:
    answer = transaction.answers[recipient]
    return f"{answer.code}{'?' * (not answer.answered)}{'?' * answer.unknown} {answer.phase}"


@pytest.mark.parametrize(("case", "script", "a", "b", "after"), CASES, ids=[case for case, *_ in CASES])
@pytest.mark.parametrize("offers", [STEP, PIPELINED], ids=["step by step", "pipelined"])
def test_cases(offers: Offers, case: str, script: str, a: str, b: str, after: After) -> None:
    if offers is STEP:  # a refusal ends the dialogue: nothing more is asked
        script = {"550 503 503 503": "550", "250 550 450 554": "250 550 450"}.get(script, script)
    transaction = Transaction(mail("s@x", ["a@x", "b@x"], (b"m",)), offers, "hop", pipelined=True)
    play(transaction, script)
    assert transaction.turn is Turn.END
    assert (told(transaction, "a@x"), told(transaction, "b@x"), transaction.after) == (a, b, after)
    assert list(transaction.answers) == ["a@x", "b@x"]


@pytest.mark.parametrize(
    ("case", "script", "a", "b", "after"), PIPELINED_CASES, ids=[case for case, *_ in PIPELINED_CASES]
)
def test_pipelined_cases(case: str, script: str, a: str, b: str, after: After) -> None:
    transaction = Transaction(mail("s@x", ["a@x", "b@x"], (b"m",)), PIPELINED, "hop", pipelined=True)
    play(transaction, script)
    assert transaction.turn is Turn.END
    assert (told(transaction, "a@x"), told(transaction, "b@x"), transaction.after) == (a, b, after)


def test_what_is_said() -> None:
    one = mail("s@x", ["a@x", "b@x", "a@x"], (b"m",))
    pipelined = Transaction(one, PIPELINED, "hop", pipelined=True)
    assert pipelined.begin().decode().replace("\r\n", "|") == COMMANDS
    step = Transaction(one, PIPELINED, "hop", pipelined=False)
    assert "|".join(play(step, "250 250 250")) + "|" == COMMANDS
    assert step.turn is Turn.HEAR


def test_a_lone_dot_goes_only_to_a_hop_that_has_no_recipient() -> None:
    for replies in itertools.product(("250", "550"), repeat=3):
        transaction = Transaction(mail("s@x", ["a@x", "b@x"], (b"m",)), PIPELINED, "hop", pipelined=True)
        said = play(transaction, " ".join(replies) + " 354")
        assert ("." in said) is (replies[1:] == ("550", "550"))
        assert (transaction.turn is Turn.SEND) is (replies[0] == "250" and "250" in replies[1:])


def test_every_order_of_replies_ends_with_an_answer_for_everybody_and_a_message_only_when_invited() -> None:
    for offers in (STEP, PIPELINED):
        for replies in itertools.product(("250", "354", "421", "450", "550", "-"), repeat=5):
            transaction = Transaction(mail("s@x", ["a@x", "b@x"], (b"m",)), offers, "hop", pipelined=True)
            heard = until_its_end(transaction, replies)
            if transaction.turn is Turn.SEND:
                assert heard[0] == "250"
                assert "250" in heard[1:3]
                assert heard[-1] == "354"
                transaction.sending()
                transaction.sent()
                transaction.lost("gone")
                assert any(answer.unknown for answer in transaction.answers.values())
            elif transaction.turn is Turn.END:
                assert set(transaction.answers) == {"a@x", "b@x"}
                assert not any(answer.taken or answer.unknown for answer in transaction.answers.values())


def until_its_end(transaction: Transaction, replies: Sequence[str]) -> list[str]:
    """Play replies until the dialogue is over; those that were played."""
    heard = []
    transaction.begin()
    for word in replies:
        if transaction.turn is not Turn.HEAR:
            break
        heard.append(word)
        if word == "-":
            transaction.lost("gone")
        else:
            transaction.heard(Reply(int(word), (b"",)))
    return heard


@pytest.mark.parametrize(
    ("offers", "flags", "line"),
    [
        (Offers(), {"eight_bit": True}, b"MAIL FROM:<>"),
        (Offers(size=True), {}, b"MAIL FROM:<> SIZE=7"),
        (Offers(size=True, size_bytes=7), {}, b"MAIL FROM:<> SIZE=7"),
        (Offers(eight_bit=True), {"eight_bit": True}, b"MAIL FROM:<> BODY=8BITMIME"),
        (Offers(eight_bit=True), {}, b"MAIL FROM:<>"),
        (Offers(smtputf8=True), {}, b"MAIL FROM:<>"),
        (
            Offers(size=True, eight_bit=True, smtputf8=True),
            {"smtputf8": True, "eight_bit": True},
            b"MAIL FROM:<> SIZE=7 SMTPUTF8 BODY=8BITMIME",
        ),
    ],
)
def test_parameters(offers: Offers, flags: dict[str, bool], line: bytes) -> None:
    transaction = Transaction(mail("", ["a@x"], (b"1234", b"567"), **flags), offers, "hop", pipelined=False)
    assert transaction.begin() == line + b"\r\n"


@pytest.mark.parametrize(
    ("offers", "flags", "told_to_a"),
    [
        (Offers(), {"smtputf8": True}, "550 mail"),
        (Offers(size=True, size_bytes=6), {}, "552 mail"),
    ],
)
def test_what_the_hop_lacks(offers: Offers, flags: dict[str, bool], told_to_a: str) -> None:
    transaction = Transaction(mail("", ["a@x"], (b"1234", b"567"), **flags), offers, "hop", pipelined=True)
    assert transaction.begin() == b""
    assert (told(transaction, "a@x"), transaction.after, transaction.leaves_open) == (told_to_a, After.KEEP, False)


@pytest.mark.parametrize(
    ("script", "leaves_open"),
    [("250 250 354 dot 250", False), ("250 250 354 dot 451", False), ("250 550 554", True), ("550 503 503", True)],
)
def test_whether_the_next_mail_begins_with_rset(script: str, leaves_open: bool) -> None:
    transaction = Transaction(mail("s@x", ["a@x"], (b"m",)), PIPELINED, "hop", pipelined=True)
    play(transaction, script)
    assert transaction.leaves_open is leaves_open


@pytest.mark.parametrize("offers", [STEP, PIPELINED], ids=["step by step", "pipelined"])
def test_rset_comes_first_where_it_is_needed(offers: Offers) -> None:
    transaction = Transaction(mail("s@x", ["a@x"], (b"m",)), offers, "hop", pipelined=True, reset=True)
    said = play(transaction, "250 250 250 354 dot 250")
    assert said == ["RSET", "MAIL FROM:<s@x>", "RCPT TO:<a@x>", "DATA"]
    assert transaction.answers["a@x"].taken


@pytest.mark.parametrize(
    ("script", "never_heard"),
    [("-", True), ("421", True), ("354", True), ("250 -", False), ("550 -", False)],
)
def test_whether_a_kept_open_connection_was_dead(script: str, never_heard: bool) -> None:
    transaction = Transaction(mail("s@x", ["a@x"], (b"m",)), PIPELINED, "hop", pipelined=True)
    play(transaction, script)
    assert transaction.was_never_heard is never_heard


def test_a_time_out_is_no_dead_connection() -> None:
    transaction = Transaction(mail("s@x", ["a@x"], (b"m",)), PIPELINED, "hop", pipelined=True)
    transaction.begin()
    transaction.lost("too late", timed_out=True)
    assert (transaction.was_never_heard, transaction.fell_out_of_step, transaction.stalled_pipelined) == (
        False,
        False,
        True,
    )


@pytest.mark.parametrize(
    ("script", "out_of_step"),
    [
        ("-", True),
        ("250 -", True),
        ("250 250 250", True),
        ("421", False),
        ("250 250 354 -", False),
        ("250 250 354 dot -", False),
        ("250 550 354 -", False),
    ],
)
def test_what_is_tried_again_step_by_step(script: str, out_of_step: bool) -> None:
    for offers, wanted in ((PIPELINED, out_of_step), (STEP, False)):
        transaction = Transaction(mail("s@x", ["a@x"], (b"m",)), offers, "hop", pipelined=True)
        play(transaction, script if offers is PIPELINED else "250 -")
        assert transaction.fell_out_of_step is wanted


@pytest.mark.parametrize(
    "address",
    ["a@x>\r\nDATA", "a@x> SIZE=1", "a b@x", "<a@x>", "a\x00@x", "a\x7f@x", '"a@x', '"a"\\@x', '"a\r"@x', "a\ud800@x"],
)
def test_an_address_says_no_command_of_its_own(address: str) -> None:
    for sender, recipient in ((address, "a@x"), ("a@x", address)):
        with pytest.raises(ValueError):
            mail(sender, [recipient], ())


@pytest.mark.parametrize("address", ["", "a@x", '"a b> <c"@x', '"a\\"b"@x', "jürg@x", "a@[IPv6:::1]", "a+b=c@x"])
def test_an_address_of_any_proper_form_is_sent_as_it_is(address: str) -> None:
    assert mail(address, [address], ()).recipients == {address: address.encode()}
