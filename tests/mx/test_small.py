"""Replies, parameters, limits, ledger: tables of the small pure parts."""

import pytest

from mx import parameters, replies
from mx.ledger import Ledger
from mx.limits import Limits, network_of, plain_ip
from mx.replies import Reply
from syncd.config import SmtpLimits
from syncd.spool.record import Outcome

ALL = [value for value in vars(replies).values() if isinstance(value, Reply)]


@pytest.mark.parametrize("reply", ALL, ids=lambda reply: reply.line[:30])
def test_every_reply_is_one_clean_line_with_matching_codes(reply: Reply) -> None:
    assert reply.line.isascii()
    assert reply.line.isprintable()
    assert len(reply.line) <= 510
    assert not reply.enhanced or reply.enhanced[0] == str(reply.code)[0]


def test_a_refusal_names_the_page_and_nothing_can_break_its_line() -> None:
    reply = replies.refused(550, "5.7.1", "evil\r\n250 ok\x00" + "x" * 1000, "https://panel.test/", "01ID")
    assert reply.line.startswith("550 5.7.1 evil 250 ok")
    assert reply.line.endswith(" https://panel.test/r/01ID")
    assert len(reply.line) <= 510


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"", (0, False, False)),
        (b" SIZE=100", (100, False, False)),
        (b" size=0 body=8bitmime SMTPUTF8", (0, True, True)),
        (b"  BODY=7BIT ", (0, False, False)),
    ],
)
def test_parameters(data: bytes, wanted: tuple[int, bool, bool]) -> None:
    got = parameters.of_mail(data, extended=True, limit=1000)
    assert (got.size, got.eight_bit, got.smtputf8) == wanted


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b" SIZE=1001", 552),
        (b" SIZE=", 501),
        (b" SIZE=-1", 501),
        (b" SIZE=" + b"9" * 500, 501),
        (b" BODY=BINARYMIME", 501),
        (b" RET=HDRS", 555),
        (b" ENVID=x", 555),
        (b" AUTH=<>", 555),
        (b" MT-PRIORITY=3", 555),
        (b" SMTPUTF8=yes", 555),
        (b"junk", 501),
    ],
)
def test_parameters_refused(data: bytes, code: int) -> None:
    with pytest.raises(parameters.Refused) as error:
        parameters.of_mail(data, extended=True, limit=1000)
    assert error.value.code == code


def test_parameters_need_ehlo() -> None:
    with pytest.raises(parameters.Refused):
        parameters.of_mail(b" SIZE=1", extended=False, limit=1000)


def test_open_connections_are_bounded_per_network() -> None:
    limits = Limits(SmtpLimits(connections_per_network=2))
    assert [limits.admit("192.0.2.1", 0) for _ in range(3)] == [None, None, replies.TOO_MANY_CONNECTIONS]
    assert limits.admit("192.0.2.2", 0) is None
    limits.leave("192.0.2.1")
    assert limits.admit("192.0.2.1", 0) is None


def test_new_connections_are_bounded_per_second() -> None:
    limits = Limits(SmtpLimits(new_per_s_per_network=2))
    assert [limits.admit("a", 0) for _ in range(3)] == [None, None, replies.TOO_FAST]
    assert limits.admit("a", 0.5) is None


def test_a_ban_names_itself_and_ends_within_a_minute() -> None:
    limits = Limits(SmtpLimits(errors_per_minute=3, ban_s=30))
    for _ in range(4):
        limits.error("a", 100)
    assert limits.admit("a", 101) == Reply(421, "4.7.0", "Too many errors from a, banned for 29 s")
    assert limits.admit("a", 131) is None


def test_errors_of_another_minute_do_not_add_up() -> None:
    limits = Limits(SmtpLimits(errors_per_minute=3))
    for now in range(0, 700, 61):
        limits.error("a", now)
    assert limits.admit("a", 700) is None


def test_what_is_remembered_of_networks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mx.limits.NETWORKS", 10)
    limits = Limits()
    for number in range(100):
        limits.admit(str(number), 0)
        limits.leave(str(number))
    assert len(limits._networks) <= 10


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.7", "127.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80:0000:0000:0000::/64"),
    ],
)
def test_network_of(address: str, network: str) -> None:
    assert network_of(plain_ip(address)) == network


class Told:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int]] = []

    def opened(self, txn: str, recipients: int) -> None:
        self.lines.append((txn, recipients))

    def closed(self, txn: str) -> None:
        self.lines.append((txn, 0))


def test_ledger_shows_a_forgotten_recipient() -> None:
    told = Told()
    ledger = Ledger(told)
    for _ in range(3):
        ledger.enter("t1")
    ledger.enter("t2")
    assert (ledger.in_flight, ledger.drift) == (4, 0)
    ledger.close("t1", [Outcome.DELIVERED, Outcome.KEPT])
    assert (ledger.in_flight, ledger.drift) == (1, 1)
    ledger.close("t2", [Outcome.ABANDONED])
    assert (ledger.in_flight, ledger.drift) == (0, 1)
    assert told.lines == [("t1", 1), ("t1", 2), ("t1", 3), ("t2", 1), ("t1", 0), ("t2", 0)]
