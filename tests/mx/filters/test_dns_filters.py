"""dnsbl and spf: verdict tables, and looks over simulated DNS (the real resolver is tested in tests/mx/checks)."""

from typing import Any

import pytest

from mx.checks.spf import Spf
from mx.filter import Action
from mx.filters import dnsbl, spf
from mx.filters.dnsbl import Answer, Facts
from tests.mx.filters.tables import Case, complaint, hold_to, seen, settings_of, tools

BL = {"zones": [{"zone": "bl.test"}]}
SCORING = {"zones": [{"zone": "bl.test", "action": "score", "points": 3}, {"zone": "b2.test", "action": "score"}]}


def said(*answers: Answer) -> Facts:
    return Facts("192.0.2.7", answers)


def only(*codes: str) -> dict[str, Any]:
    return {"zones": [{"zone": "bl.test", "codes": list(codes)}]}


LISTED = Answer("bl.test", ("127.0.0.2",), "sends spam")
LISTS = [
    Case("no lists", said(), {}, Action.PASS),
    Case("not listed", said(Answer("bl.test")), BL, Action.PASS),
    Case("listed", said(LISTED), BL, Action.REFUSE, "192.0.2.7 is listed by bl.test (127.0.0.2): sends spam"),
    Case("held", said(LISTED), {"zones": [{"zone": "bl.test", "action": "hold"}]}, Action.HOLD, "is listed"),
    Case("a code that counts", said(LISTED), only("127.0.0.4", "127.0.0.2"), Action.REFUSE),
    Case("a code in a range", said(LISTED), only("127.0.0.0-127.0.0.9"), Action.REFUSE),
    Case("a code in a network", said(LISTED), only("127.0.0.0/28"), Action.REFUSE),
    Case("a code that does not", said(LISTED), only("127.0.0.4"), Action.PASS),
    Case("outside 127/8", said(Answer("bl.test", ("192.0.2.1",))), BL, Action.PASS),
    Case("no answer", said(Answer("bl.test", failed="late")), BL, Action.UNSURE, "No answer from bl.test"),
    Case("one silent, one sure", said(Answer("b2.test", failed="late"), LISTED), SCORING, Action.SCORE, "is listed"),
    Case("two lists", said(LISTED, Answer("b2.test", ("127.0.0.3",))), SCORING, Action.SCORE, "bl.test (127.0.0.2)"),
    Case(
        "one zone twice, by its codes",
        said(LISTED, LISTED),
        {"zones": [{"zone": "bl.test", "codes": ["127.0.0.4"]}, {"zone": "bl.test", "action": "tag"}]},
        Action.TAG,
        "is listed",
    ),
    Case("settings changed since the look", said(), BL, Action.PASS),
]


@pytest.mark.parametrize("case", LISTS, ids=lambda case: case.name)
def test_dnsbl(case: Case) -> None:
    hold_to(dnsbl.FILTER, case)


def test_points_of_two_lists_add_up_and_the_peer_hears_which_list() -> None:
    both = said(LISTED, Answer("b2.test", ("127.0.0.3",)))
    verdict = dnsbl.judge(both, settings_of(dnsbl.FILTER, SCORING))
    assert verdict.score == 8
    assert verdict.evidence["listed"] == {"bl.test": "127.0.0.2 sends spam", "b2.test": "127.0.0.3"}
    refusal = dnsbl.judge(both, settings_of(dnsbl.FILTER, BL))
    assert refusal.text == "Client address 192.0.2.7 is listed by bl.test"


@pytest.mark.parametrize(
    ("client_ip", "name"),
    [
        ("192.0.2.99", "99.2.0.192"),
        ("::ffff:192.0.2.99", "99.2.0.192"),
        ("2001:db8:1::fe", ".".join("ef00000000000000000010008bd01002")),
    ],
)
def test_the_name_that_is_asked(client_ip: str, name: str) -> None:
    assert dnsbl.reversed_name(client_ip) == name


RECORDS: dict[str, list[Any]] = {
    "7.2.0.192.bl.test": [{"A": "127.0.0.2"}, {"TXT": ["see ", "https://bl.test"]}],
    "7.2.0.192.mute.test": [{"A": "127.0.0.3"}, {"TXT": "TIMEOUT"}],
    "7.2.0.192.gone.test": [{"A": "203.0.113.9"}, {"TXT": "for sale"}],
    "7.2.0.192.closed.test": [{"A": "127.255.255.254"}],
    "7.2.0.192.late.test": ["TIMEOUT"],
}


async def test_the_look_asks_all_lists_and_takes_each_answer_for_what_it_is() -> None:
    zones = [{"zone": f"{name}.test"} for name in ("bl", "mute", "gone", "closed", "late", "none")]
    facts = await dnsbl.look(seen(), settings_of(dnsbl.FILTER, {"zones": zones}), tools(RECORDS))
    assert [(one.zone, one.addresses, one.reason, bool(one.failed)) for one in facts.answers] == [
        ("bl.test", ("127.0.0.2",), "see https://bl.test", False),
        ("mute.test", ("127.0.0.3",), "", False),
        ("gone.test", ("203.0.113.9",), "", False),
        ("closed.test", (), "", True),
        ("late.test", (), "", True),
        ("none.test", (), "", False),
    ]
    silent = settings_of(dnsbl.FILTER, {"zones": zones[2:]})
    assert dnsbl.judge(facts, settings_of(dnsbl.FILTER, {"zones": zones})).action is Action.REFUSE
    assert dnsbl.judge(await dnsbl.look(seen(), silent, tools(RECORDS)), silent).action is Action.UNSURE


@pytest.mark.parametrize(
    ("zones", "field"),
    [
        ([{}], "dnsbl.zones[0]"),
        ([{"zone": "bl"}], "dnsbl.zones[0].zone"),
        ([{"zone": "bl.test\n"}], "dnsbl.zones[0].zone"),
        ([{"zone": "bl..test"}], "dnsbl.zones[0].zone"),
        ([{"zone": "bl.test"}, {"zone": "bl.test", "codes": ["x"]}], "dnsbl.zones[1].codes[0]"),
        ([{"zone": "bl.test", "codes": ["127.0.0.9-127.0.0.2"]}], "dnsbl.zones[0].codes[0]"),
        ([{"zone": "bl.test", "codes": ["192.0.2.1"]}], "dnsbl.zones[0].codes[0]"),
        ([{"zone": "bl.test", "codes": ["::1"]}], "dnsbl.zones[0].codes[0]"),
        ([{"zone": f"b{n}.test"} for n in range(11)], "dnsbl.zones"),
        ([{"zone": "bl.test", "action": "defer"}], "dnsbl.zones[0].action"),
        ([{"zone": "bl.test", "action": "refuse"}], ""),
    ],
    ids=str,
)
def test_lists_that_nobody_could_ask(zones: list[Any], field: str) -> None:
    assert complaint(dnsbl.FILTER, {"zones": zones})[0] == field


def result(name: str, identity: str = "mailfrom") -> Spf:
    return Spf(name, "sender.test", identity, "-all" if name == "fail" else "")  # type: ignore[arg-type]


SPF = [
    Case("pass", result("pass"), {}, Action.PASS),
    Case("fail", result("fail"), {}, Action.REFUSE, "SPF of sender.test says fail (-all)", "550 5.7.23"),
    Case("fail, scored", result("fail"), {"fail": "score"}, Action.SCORE, "says fail"),
    Case("fail, held", result("fail"), {"fail": "hold"}, Action.HOLD, "says fail"),
    Case("fail, left alone", result("fail"), {"fail": "off"}, Action.PASS),
    Case("softfail", result("softfail"), {}, Action.SCORE, "says softfail"),
    Case("neutral", result("neutral"), {}, Action.PASS),
    Case("neutral, tagged", result("neutral"), {"neutral": "tag"}, Action.TAG, "says neutral"),
    Case("none", result("none"), {}, Action.PASS),
    Case("none, refused", result("none"), {"none": "refuse"}, Action.REFUSE, "says none", "550 5.7.23"),
    Case("permerror", result("permerror"), {}, Action.PASS),
    Case("permerror, refused", result("permerror"), {"permerror": "refuse"}, Action.REFUSE, "permerror", "550 5.7.24"),
    Case("temperror", result("temperror"), {}, Action.UNSURE, "says temperror"),
    Case("temperror, deferred", result("temperror"), {"temperror": "defer"}, Action.DEFER, "says temperror"),
]


@pytest.mark.parametrize("case", SPF, ids=lambda case: case.name)
def test_spf(case: Case) -> None:
    verdict = hold_to(spf.FILTER, case)
    assert verdict.evidence["result"] == case.facts.result, "Authentication-Results is made of it"
    if verdict.action is Action.DEFER:
        assert (verdict.code, verdict.enhanced) == (451, "4.7.1")


SENDERS: dict[str, list[Any]] = {
    "sender.test": [{"TXT": "v=spf1 ip4:192.0.2.0/24 -all"}],
    "mail.helo.test": [{"TXT": "v=spf1 -all"}],
    "slow.test": ["TIMEOUT"],
}


@pytest.mark.parametrize(
    ("sender", "client_ip", "result", "identity"),
    [
        ("ann@sender.test", "192.0.2.7", "pass", "mailfrom"),
        ("ann@sender.test", "198.51.100.1", "fail", "mailfrom"),
        ("ann@nobody.test", "192.0.2.7", "none", "mailfrom"),
        ("ann@slow.test", "192.0.2.7", "temperror", "mailfrom"),
        ("", "192.0.2.7", "fail", "helo"),
        ("ann@sender.test", "2001:db8::1", "fail", "mailfrom"),
    ],
)
async def test_spf_looks_at_sender_or_helo(sender: str, client_ip: str, result: str, identity: str) -> None:
    session = seen(sender=sender, client_ip=client_ip, helo="mail.helo.test")
    found = await spf.look(session, settings_of(spf.FILTER, {}), tools(SENDERS))
    assert (found.result, found.identity) == (result, identity)
