"""Allow and deny entries: the precedence table, what matches, and what a missing list does."""

import ipaddress
import itertools
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from control.store import names
from mx.checks.spf import Spf
from mx.filter import Action
from mx.filters.sender_list import FILTER, LAYERS, Facts, Found, candidates, deciding, look
from syncd.layers import Entry
from tests.mx.filters.tables import Case, Lists, hold_to, seen, settings_of, tools

ADDRESS, NARROW, WIDE = "ann@mail.sender.test", "192.0.2.7/32", "192.0.0.0/8"
DOMAIN, PARENT = "mail.sender.test", "sender.test"

RANKED = [
    *(("address", layer, ADDRESS) for layer in LAYERS),
    *(("network", layer, NARROW) for layer in LAYERS),
    *(("network", layer, WIDE) for layer in LAYERS),
    *(("domain", layer, DOMAIN) for layer in LAYERS),
    *(("domain", layer, PARENT) for layer in LAYERS),
]
"""The precedence, whole: each entry decides over all that follow it."""


def found(names_: str, layer: str, match: str, kind: str = "allow", only: bool = False) -> Found:
    return Found(layer, names_, match, kind, only, f"id of {layer} {match}")  # type: ignore[arg-type]


@pytest.mark.parametrize("stronger", range(len(RANKED)), ids=lambda n: f"{RANKED[n][1]}-{RANKED[n][2]}")
@pytest.mark.parametrize("kinds", [("allow", "deny"), ("deny", "allow")], ids="-over-".join)
def test_each_place_decides_over_all_behind_it(stronger: int, kinds: tuple[str, str]) -> None:
    first = found(*RANKED[stronger], kinds[0])
    rest = [found(*place, kinds[1]) for place in RANKED[stronger + 1 :]]
    random.Random(stronger).shuffle(rest)
    assert deciding([*rest, first], is_authenticated=False) == first


@given(st.permutations([found(*place, kind) for place in RANKED for kind in ("allow",)]))
def test_the_order_in_which_entries_are_found_does_not_matter(shuffled: list[Found]) -> None:
    assert deciding(shuffled, is_authenticated=True) == found(*RANKED[0])


ONLY = found("address", "domain", ADDRESS, "allow", only=True)
VERDICTS = [
    Case("nothing matches", Facts(), {}, Action.PASS),
    Case(
        "allowed", Facts((found("domain", "system", PARENT),)), {}, Action.ALLOW, "sender.test is allowed by the system"
    ),
    Case("denied", Facts((found("network", "domain", WIDE, "deny"),)), {}, Action.REFUSE, "192.0.0.0/8 is denied"),
    Case("for authenticated mail, which it is", Facts((ONLY,), "pass", True), {}, Action.ALLOW, "is allowed"),
    Case("for authenticated mail, which it is not", Facts((ONLY,), "fail", False), {}, Action.PASS),
    Case(
        "an entry that does not count leaves the decision to the next",
        Facts((ONLY, found("domain", "account", PARENT, "deny")), "softfail", False),
        {},
        Action.REFUSE,
        "by the account",
    ),
]


@pytest.mark.parametrize("case", VERDICTS, ids=lambda case: case.name)
def test_verdicts(case: Case) -> None:
    hold_to(FILTER, case)


MATCHES = [
    ("an address", "Ann@Sender.TEST", "ann@sender.test", "192.0.2.7", True),
    ("another address", "bob@sender.test", "ann@sender.test", "192.0.2.7", False),
    ("a domain", "sender.test", "ann@sender.test", "192.0.2.7", True),
    ("a domain with an at sign", "@sender.test", "ann@sender.test", "192.0.2.7", True),
    ("a subdomain", "sender.test", "ann@a.b.sender.test", "192.0.2.7", True),
    ("no part of a label", "ender.test", "ann@sender.test", "192.0.2.7", False),
    ("a domain of letters beyond ASCII", "bücher.test", "ann@xn--bcher-kva.test", "192.0.2.7", True),
    ("a client", "192.0.2.7", "ann@sender.test", "192.0.2.7", True),
    ("a network", "192.0.2.99/24", "ann@sender.test", "192.0.2.7", True),
    ("another network", "192.0.3.0/24", "ann@sender.test", "192.0.2.7", False),
    ("all clients", "0.0.0.0/0", "ann@sender.test", "192.0.2.7", True),
    ("a client of IPv6", "2001:DB8::7", "ann@sender.test", "2001:db8:0:0::7", True),
    ("a network of IPv6", "2001:db8::/37", "ann@sender.test", "2001:db8::7", True),
    ("IPv4 written as IPv6", "192.0.2.0/24", "ann@sender.test", "::ffff:192.0.2.7", True),
    ("the null sender by its client", "192.0.2.7", "", "192.0.2.7", True),
    ("the null sender by nothing else", "sender.test", "", "192.0.2.7", False),
    ("an address literal", "sender.test", "ann@[192.0.2.1]", "192.0.2.7", False),
]


@pytest.mark.parametrize(("name", "typed", "sender", "client_ip", "is_found"), MATCHES, ids=[row[0] for row in MATCHES])
async def test_what_an_entry_as_it_is_typed_matches(
    name: str, typed: str, sender: str, client_ip: str, is_found: bool
) -> None:
    key = names.match(typed)
    lists = Lists({("account", key): Entry("e1", "deny", key)})
    facts = await look(seen(sender=sender, client_ip=client_ip), settings_of(FILTER, {}), tools(lists=lists))
    assert [one.match for one in facts.found] == ([key] if is_found else [])
    assert facts.spf == "", "SPF is asked only where an entry wants it"


@pytest.mark.parametrize(
    ("spf", "is_authenticated"),
    [
        (Spf("pass", "sender.test", "mailfrom"), True),
        (Spf("pass", "other.test", "mailfrom"), False),
        (Spf("pass", "sender.test", "helo"), False),
        (Spf("temperror", "sender.test", "mailfrom"), False),
        (Spf("none", "sender.test", "mailfrom"), False),
        (None, False),
    ],
    ids=str,
)
async def test_authenticated_is_an_spf_pass_of_the_senders_own_domain(spf: Spf | None, is_authenticated: bool) -> None:
    lists = Lists({("domain", "sender.test"): Entry("e1", "allow", "sender.test", authenticated_only=True)})
    facts = await look(seen(), settings_of(FILTER, {}), tools(lists=lists, facts={"spf": spf}))
    assert facts.is_authenticated is is_authenticated
    assert (FILTER.judge(facts, settings_of(FILTER, {})).action is Action.ALLOW) is is_authenticated


@pytest.mark.parametrize("layer", LAYERS)
async def test_a_list_that_is_not_here_is_not_an_empty_one(layer: str) -> None:
    lists = Lists({("domain", "sender.test"): Entry("e1", "allow", "sender.test")}, absent=(layer,))
    with pytest.raises(KeyError):
        await look(seen(), settings_of(FILTER, {}), tools(lists=lists))
    assert FILTER.when_unsure == "defer"


def test_the_keys_are_few_and_each_stands_once() -> None:
    for sender, client_ip in itertools.product(("", "a@b", "a@" + ".".join("x" * 120)), ("192.0.2.7", "2001:db8::7")):
        keys = candidates(sender, client_ip)
        assert len(keys) == len(set(keys)) <= 129 + 121


@given(st.ip_addresses() | st.integers(0, 2**49).map(ipaddress.IPv6Address))
@example(ipaddress.ip_address("::1.2.3.4"))
@example(ipaddress.ip_address("::ffff:0:1.2.3.4"))
@example(ipaddress.ip_address("1:0:0:2::"))
def test_networks_are_spelled_as_entries_are(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    address = getattr(address, "ipv4_mapped", None) or address
    for _, key in candidates("", str(address)):
        assert names.match(f"{address}/{key.rpartition('/')[2]}") == key


@given(st.text(max_size=80), st.ip_addresses())
def test_any_sender_and_client_have_keys(sender: str, client_ip: object) -> None:
    assert candidates(sender, str(client_ip))
