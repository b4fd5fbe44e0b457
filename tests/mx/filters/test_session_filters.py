"""Verdict tables of the filters that need no message: recipient_list, early_talker, helo."""

from typing import Any

import pytest

from mx.filter import Action
from mx.filters import early_talker, helo, recipient_list
from tests.mx.filters.tables import Case, complaint, hold_to, seen, settings_of, tools

TO = recipient_list.Facts
RECIPIENTS = [
    Case("not listed", TO("ann", "x@y.test"), {"refused": ["old"]}, Action.PASS),
    Case("listed", TO("old", "x@y.test"), {"refused": ["old"]}, Action.REFUSE, "old is listed", "550 5.2.1"),
    Case("in any case", TO("old", "x@y.test"), {"refused": ["OLD"]}, Action.REFUSE, "", "550 5.2.1"),
    Case("by a star", TO("news-7", "x@y.test"), {"refused": ["news-*"]}, Action.REFUSE, "news-*", "550 5.2.1"),
    Case("a star takes nothing too", TO("news-", "x@y.test"), {"refused": ["news-*"]}, Action.REFUSE, "", "550 5.2.1"),
    Case("by a question mark", TO("a1", "x@y.test"), {"refused": ["a?"]}, Action.REFUSE, "", "550 5.2.1"),
    Case("the whole local part", TO("older", "x@y.test"), {"refused": ["old"]}, Action.PASS),
    Case("brackets are themselves", TO("a", "x@y.test"), {"refused": ["[ab]"]}, Action.PASS),
    Case("restricted", TO("all", "x@y.test"), {"restricted": ["all"]}, Action.REFUSE, "x@y.test is not listed"),
    Case("restricted, bounce", TO("all", ""), {"restricted": ["all"]}, Action.REFUSE, "a sender without"),
    Case("may by address", TO("all", "x@y.test"), {"restricted": ["all"], "senders": ["X@y.test"]}, Action.PASS),
    Case("may by domain", TO("all", "x@y.test"), {"restricted": ["all"], "senders": ["@y.test"]}, Action.PASS),
    Case("may by parent", TO("all", "x@a.y.test"), {"restricted": ["all"], "senders": ["y.test"]}, Action.PASS),
    Case("no part of a label", TO("all", "x@ay.test"), {"restricted": ["all"], "senders": ["y.test"]}, Action.REFUSE),
]


@pytest.mark.parametrize("case", RECIPIENTS, ids=lambda case: case.name)
def test_recipient_list(case: Case) -> None:
    hold_to(recipient_list.FILTER, case)


@pytest.mark.parametrize(
    ("address", "local_part"),
    [("Old@example.test", "old"), ('"old"@example.test', "old"), ('"o\\ld"@example.test', "old"), ("", "")],
)
async def test_a_local_part_is_compared_by_its_meaning(address: str, local_part: str) -> None:
    """Quoting an address must not get past its refusal (RFC 5321 section 4.1.2)."""
    facts = await recipient_list.look(seen(recipient=address), settings_of(recipient_list.FILTER, {}), tools())
    assert facts.local_part == local_part


def test_a_pattern_of_stars_comes_to_an_end() -> None:
    """Going back over the stars would take longer than the test may."""
    settings = settings_of(recipient_list.FILTER, {"refused": ["*a" * 32]})
    assert recipient_list.judge(TO("a" * 63 + "b", "x@y.test"), settings).action is Action.PASS


def test_it_is_spoken_early_and_for_each_recipient() -> None:
    assert recipient_list.FILTER.early
    assert recipient_list.FILTER.per_recipient
    assert not recipient_list.FILTER.bypassable


TALKED = [
    Case("waited", False, {}, Action.PASS),
    Case("talked", True, {}, Action.REFUSE, "before our greeting", "550 5.5.1"),
    Case("scored", True, {"action": "score", "points": 4}, Action.SCORE, "before"),
    Case("held", True, {"action": "hold"}, Action.HOLD, "before"),
]


@pytest.mark.parametrize("case", TALKED, ids=lambda case: case.name)
def test_early_talker(case: Case) -> None:
    verdict = hold_to(early_talker.FILTER, case)
    assert verdict.score == case.settings.get("points", 0)


ALL = dict.fromkeys(
    ("ours", "recipients", "malformed", "bare_address", "wrong_literal", "unqualified", "unknown"), "refuse"
)
HELO = [
    ("a full name", {"helo": "mail.sender.test"}, Action.PASS, ""),
    ("with its final dot", {"helo": "mail.sender.test."}, Action.PASS, ""),
    ("an underscore", {"helo": "a_b.sender.test"}, Action.PASS, ""),
    ("our name", {"helo": "MX1.mxfleet.test"}, Action.REFUSE, "our name"),
    ("your domain", {"helo": "example.test"}, Action.REFUSE, "your domain"),
    ("no name at all", {"helo": ""}, Action.REFUSE, "is no host name"),
    ("a hyphen first", {"helo": "-x.test"}, Action.REFUSE, "is no host name"),
    ("spaces", {"helo": "my pc.test"}, Action.REFUSE, "is no host name"),
    ("too long", {"helo": "a." * 130 + "test"}, Action.REFUSE, "is no host name"),
    ("a number at the top", {"helo": "1.2.3.4.5"}, Action.REFUSE, "is no host name"),
    ("a bare address", {"helo": "192.0.2.7"}, Action.REFUSE, "without brackets"),
    ("a bare address of IPv6", {"helo": "2001:db8::7", "client_ip": "2001:db8::7"}, Action.REFUSE, "without brackets"),
    ("its literal", {"helo": "[192.0.2.7]"}, Action.PASS, ""),
    ("its literal of IPv6", {"helo": "[IPv6:2001:DB8::7]", "client_ip": "2001:db8::7"}, Action.PASS, ""),
    ("its literal, the client mapped", {"helo": "[192.0.2.7]", "client_ip": "::ffff:192.0.2.7"}, Action.PASS, ""),
    ("another's literal", {"helo": "[192.0.2.8]"}, Action.REFUSE, "is not its address"),
    ("a broken literal", {"helo": "[x]"}, Action.REFUSE, "is no host name"),
    ("no domain", {"helo": "pc"}, Action.REFUSE, "no full host name"),
    ("not in DNS", {"helo": "nowhere.test"}, Action.REFUSE, "no address in DNS"),
    ("only IPv6 in DNS", {"helo": "six.sender.test"}, Action.PASS, ""),
    ("DNS does not answer", {"helo": "slow.test"}, Action.UNSURE, "DNS did not say"),
]
RECORDS: dict[str, list[Any]] = {
    "mail.sender.test": [{"A": "192.0.2.7"}],
    "a_b.sender.test": [{"A": "192.0.2.7"}],
    "six.sender.test": [{"AAAA": "2001:db8::7"}],
    "slow.test": ["TIMEOUT"],
}


@pytest.mark.parametrize(("name", "session", "action", "says"), HELO, ids=[row[0] for row in HELO])
async def test_helo(name: str, session: dict[str, str], action: Action, says: str) -> None:
    facts = await helo.look(seen(**session), settings_of(helo.FILTER, ALL), tools(RECORDS))
    verdict = hold_to(helo.FILTER, Case(name, facts, ALL, action, says, "550 5.5.4"))
    assert verdict.evidence.get("helo", facts.name) == facts.name
    nothing = dict.fromkeys(ALL, "off")
    assert helo.judge(facts, settings_of(helo.FILTER, nothing)).action is Action.PASS


async def test_helo_asks_dns_only_where_the_domain_wants_to_know() -> None:
    own = tools(RECORDS)
    await helo.look(seen(), settings_of(helo.FILTER, {}), own)
    assert own.resolver.asked == []  # type: ignore[attr-defined]


async def test_helo_findings_add_up() -> None:
    facts = await helo.look(seen(helo="pc", domain="pc"), settings_of(helo.FILTER, {}), tools())
    verdict = helo.judge(facts, settings_of(helo.FILTER, {"recipients": "score", "points": 1.5}))
    assert (verdict.action, verdict.score) == (Action.SCORE, 3.0)


@pytest.mark.parametrize(
    ("filter_", "settings", "field"),
    [
        (recipient_list.FILTER, {"refused": ["a@b.test"]}, "recipient_list.refused[0]"),
        (recipient_list.FILTER, {"refused": ["a\n"]}, "recipient_list.refused[0]"),
        (recipient_list.FILTER, {"refused": [""]}, "recipient_list.refused[0]"),
        (recipient_list.FILTER, {"refused": ["x"] * 1001}, "recipient_list.refused"),
        (recipient_list.FILTER, {"senders": ["a b"]}, "recipient_list.senders[0]"),
        (early_talker.FILTER, {"action": "defer"}, "early_talker.action"),
        (early_talker.FILTER, {"points": 101}, "early_talker.points"),
        (helo.FILTER, {"ours": "hold"}, "helo.ours"),
        (helo.FILTER, {"nosuch": "off"}, "helo"),
    ],
)
def test_settings_that_are_refused(filter_: Any, settings: dict[str, Any], field: str) -> None:
    assert complaint(filter_, settings)[0] == field
