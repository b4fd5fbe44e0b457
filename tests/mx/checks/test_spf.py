"""SPF beside the suite: what a caller is told, a real name server, a second evaluator, hostile records."""

import time
from collections.abc import Mapping
from typing import Any

import pytest
import spf as pyspf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mx.checks import spf, spf_macro, spf_record
from mx.checks.dns import DnsResolver
from mx.filter import DnsUnsure
from tests.mx.checks.zone import Zone

NOW = 1_700_000_000


async def said(
    zone: Mapping[str, Any], sender: str = "a@x.test", client: str = "192.0.2.1", helo: str = "h.x.test"
) -> spf.Spf:
    """The result against a simulated zone."""
    return await spf.check(Zone(zone), client_ip=client, sender=sender, helo=helo, now=NOW)


@pytest.mark.parametrize(
    ("record", "result", "mechanism", "lookups"),
    [
        ("v=spf1 ip4:192.0.2.0/24 -all", "pass", "ip4:192.0.2.0/24", 0),
        ("v=spf1 ~all", "softfail", "~all", 0),
        ("v=spf1 ?a:none.test -all", "fail", "-all", 1),
        ("v=spf1 include:in.test -all", "pass", "include:in.test", 1),
        ("v=spf1 redirect=in.test", "pass", "ip4:192.0.2.1", 1),
        ("v=spf1", "neutral", "", 0),
        ("v=spf1 ip4:1.2.3.4.5", "permerror", "`ip4` needs an address, not ':1.2.3.4.5'", 0),
        ("v=spf1 include:none.test", "permerror", "include of a domain without an SPF record", 1),
        ("v=spf1 a:slow.test -all", "temperror", "slow.test A: no answer in time", 1),
    ],
)
async def test_the_result_names_what_decided(record: str, result: str, mechanism: str, lookups: int) -> None:
    zone = {"x.test": [{"TXT": record}], "in.test": [{"TXT": "v=spf1 ip4:192.0.2.1 -all"}], "slow.test": ["TIMEOUT"]}
    answer = await said(zone)
    assert (answer.result, answer.mechanism, answer.lookups) == (result, mechanism, lookups)
    assert (answer.domain, answer.identity) == ("x.test", "mailfrom")


@pytest.mark.parametrize(
    ("sender", "helo", "domain", "identity"),
    [
        ("a@x.test", "h.test", "x.test", "mailfrom"),
        ("a@b@x.test", "h.test", "x.test", "mailfrom"),
        ("a@x.test.", "h.test", "x.test", "mailfrom"),
        ("a@b\u00fccher.test", "h.test", "xn--bcher-kva.test", "mailfrom"),
        ("", "h.test", "h.test", "helo"),
        ("", "[192.0.2.1]", "[192.0.2.1]", "helo"),
        ("", "", "", "helo"),
        ("no-domain", "h.test", "no-domain", "mailfrom"),
    ],
)
async def test_the_domain_checked(sender: str, helo: str, domain: str, identity: str) -> None:
    answer = await said({}, sender, helo=helo)
    assert (answer.domain, answer.identity, answer.result) == (domain, identity, "none")


@pytest.mark.parametrize("client", ["192.0.2.1", "::ffff:192.0.2.1", "::FFFF:C000:201"])
async def test_a_mapped_address_is_the_ipv4_address(client: str) -> None:
    zone = {"x.test": [{"TXT": "v=spf1 -ip6:::/0 a -all"}, {"A": "192.0.2.1"}]}
    assert (await said(zone, client=client)).mechanism == "a"


@pytest.mark.parametrize(
    ("sender", "client", "result"),
    [
        ("offers@bank.test", "192.0.2.200", "pass"),
        ("offers@bank.test", "127.0.0.9", "fail"),
        ("a@odd.test", "127.0.0.9", "none"),
        ("a@nowhere.example.com", "127.0.0.9", "none"),
    ],
)
async def test_the_real_resolver_serves_it(knot: str, sender: str, client: str, result: str) -> None:
    resolver = DnsResolver((knot,))
    answer = await spf.check(resolver, client_ip=client, sender=sender, helo="h.test", now=time.time())
    assert answer.result == result


def loop(name: str) -> dict[str, Any]:
    """A record that includes itself."""
    return {name: [{"TXT": f"v=spf1 include:{name} -all"}]}


HOSTILE: dict[str, dict[str, Any]] = {
    "loop": loop("x.test"),
    "redirect to itself": {"x.test": [{"TXT": "v=spf1 redirect=x.test"}]},
    "ring": {"x.test": [{"TXT": "v=spf1 include:y.test"}], "y.test": [{"TXT": "v=spf1 include:x.test"}]},
    "tree": {"x.test": [{"TXT": "v=spf1 " + "include:%{d} " * 100}]},
    "eleven": {"x.test": [{"TXT": "v=spf1 " + "exists:x.test " * 11 + "-all"}, {"TXT": "v=other"}]},
    "void": {"x.test": [{"TXT": "v=spf1 a:1.y.test a:2.y.test a:3.y.test -all"}]},
    "many hosts": {"x.test": [{"TXT": "v=spf1 mx -all"}, *({"MX": [n, f"{n}.y.test"]} for n in range(11))]},
    "two records": {"x.test": [{"TXT": "v=spf1 -all"}, {"TXT": "v=spf1 +all"}]},
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_record_that_costs_is_a_permanent_error_within_the_limits(name: str) -> None:
    zone = Zone(HOSTILE[name])
    answer = await spf.check(zone, client_ip="192.0.2.1", sender="a@x.test", helo="h.test", now=NOW)
    assert answer.result == "permerror"
    assert answer.lookups <= spf.MAX_LOOKUPS + 1
    assert len(zone.asked) <= 2 * (spf.MAX_LOOKUPS + 1)


async def test_the_names_of_an_address_are_bounded() -> None:
    pointers = [{"PTR": f"{n}.y.test"} for n in range(50)]
    zone = Zone({"x.test": [{"TXT": "v=spf1 ptr -all"}], "1.2.0.192.in-addr.arpa": pointers})
    assert (await spf.check(zone, client_ip="192.0.2.1", sender="a@x.test", helo="h", now=NOW)).result == "fail"
    assert len([kind for _, kind in zone.asked if kind == "A"]) == spf.MAX_HOSTS


async def test_an_explanation_is_bounded_ascii_and_only_for_a_failure() -> None:
    zone = {"e.test": [{"TXT": "x" * 5000}], "x.test": [{"TXT": "v=spf1 -all exp=e.test"}]}
    assert (await said(zone)).explanation == "x" * spf_macro.EXPLANATION_CHARS
    soft = {**zone, "x.test": [{"TXT": "v=spf1 ~all exp=e.test"}]}
    assert (await said(soft)).explanation == ""
    assert (await said({**zone, "e.test": [{"TXT": "%{l}"}]}, "\u00e4@x.test")).explanation == ""
    assert (await said({**zone, "e.test": [{"TXT": "%{h}"}]}, helo="a\nb")).explanation == ""
    assert (await said({**zone, "e.test": ["TIMEOUT"]})).result == "fail"


async def test_a_macro_of_a_long_sender_stays_within_a_name() -> None:
    zone = Zone({"x.test": [{"TXT": "v=spf1 exists:%{l}.%{l}.%{l}.%{l}.%{l}.y.test -all"}]})
    await spf.check(zone, client_ip="192.0.2.1", sender="a.b" * 21 + "@x.test", helo="h", now=NOW)
    assert all(len(name) <= spf_macro.NAME_CHARS for name, _ in zone.asked)


_TERM = st.sampled_from(
    (
        *(
            "all",
            "-all",
            "~all",
            "?all",
            "a",
            "mx",
            "ptr",
            "a:y.test",
            "mx:y.test/24",
            "ip4:192.0.2.0/28",
            "ip6:2001:db8::/32",
        ),
        *("include:y.test", "include:z.test", "exists:%{i}.y.test", "-exists:%{l}.y.test", "redirect=z.test", "a//64"),
        *("-ip4:192.0.2.1", "+a/0", "?mx", "ptr:test", "x=y", "ip4:bad", "a:bad", "exp=y.test"),
    )
)


def _referee(zone: Zone, client: str) -> str:
    """The result of pyspf on the same records."""

    def look(name: str, kind: str, strict: bool = True, timeout: int = 1) -> Any:
        for value in zone._values(name.rstrip("."), kind):
            plain = value if kind in ("MX", "A", "PTR") else [str(value).encode()]
            yield (name, kind), tuple(plain) if isinstance(plain, list) else plain

    former, pyspf.DNSLookup = pyspf.DNSLookup, look
    try:
        return str(pyspf.check2(client, "a@x.test", "h.x.test")[0])
    finally:
        pyspf.DNSLookup = former


@settings(max_examples=300, deadline=None)
@given(*(st.lists(_TERM, max_size=5, unique=True).map(" ".join) for _ in range(3)))
async def test_a_second_evaluator_agrees(first: str, second: str, third: str) -> None:
    """Invariant: pyspf says the same.

    Not drawn is what it refuses and RFC 7208 does not: an unknown modifier twice (section 6), and a record that
    includes itself behind a term that matches first.
    """
    assume("include:y.test" not in second)
    assume("include:z.test" not in third)
    zone = Zone(
        {
            "x.test": [{"TXT": f"v=spf1 {first}"}, {"A": "192.0.2.9"}, {"MX": [10, "m.test"]}],
            "y.test": [{"TXT": f"v=spf1 {second}"}, {"A": "192.0.2.1"}],
            "z.test": [{"TXT": f"v=spf1 {third}"}],
            "m.test": [{"A": "192.0.2.77"}],
        }
    )
    answer = await spf.check(zone, client_ip="192.0.2.1", sender="a@x.test", helo="h.x.test", now=NOW)
    assert answer.result == _referee(zone, "192.0.2.1")


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=80) | st.text("v=spf1 aimxptr:/%{}dloshr0129.-~?+e", max_size=80).map(str.encode))
def test_any_record_is_read_or_a_syntax_error(raw: bytes) -> None:
    """Invariant: a record or SpfSyntaxError."""
    try:
        spf_record.parse(b"v=spf1 " + raw)
    except spf_macro.SpfSyntaxError:
        assert raw


class Away:
    """A resolver that knows nothing."""

    def __getattr__(self, name: str) -> Any:
        async def unsure(asked: str) -> Any:
            raise DnsUnsure(asked)

        return unsure


async def test_without_dns_it_is_a_temporary_error() -> None:
    answer = await spf.check(Away(), client_ip="192.0.2.1", sender="a@x.test", helo="h.test", now=NOW)
    assert (answer.result, answer.lookups) == ("temperror", 0)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80))
async def test_any_sender_and_helo_have_a_result(sender: str, helo: str) -> None:
    """Invariant: never an exception."""
    zone = {
        "x.test": [{"TXT": "v=spf1 exists:%{S4r+-}.%{L}.%{h}.%{o} exp=e.test -all"}],
        "e.test": [{"TXT": "%{h} %{S}"}],
    }
    await said(zone, f"{sender}@x.test", helo=helo)
    await said(zone, sender, helo=helo)
