"""The resolver against a real name server, and against ones that are silent, wrong, or lie."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import dns.message
import pytest
from dns.message import Message

from monitoring.metrics import mx as metrics
from mx.checks import dns as checked
from mx.checks import dns_servers, dns_wire
from mx.checks.dns import DnsResolver
from mx.filter import DnsUnsure
from tests.mx.checks.rogue import (
    Behaviour,
    Rogue,
    answers,
    right,
    rubbish,
    silent,
    truncated,
    wrong_id,
    wrong_question,
)

Make = Callable[[Behaviour], Awaitable[Rogue]]

SERVFAIL, NXDOMAIN, REFUSED = 2, 3, 5


def counted(result: str) -> float:
    """The counter of one kind of result."""
    return float(metrics.dns_queries.labels(result)._value.get())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits, so that silence is known soon."""
    monkeypatch.setattr(checked, "TRY_S", 0.1)
    monkeypatch.setattr(checked, "DEADLINE_S", 0.5)


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        ("a", "99.0.0.127.dnsbl.test", ("127.0.0.2",)),
        ("a", "10.0.0.127.dnsbl.test", ()),
        ("a", "ALIAS.Odd.Test.", ("192.0.2.7",)),
        ("aaaa", "six.odd.test", ("2001:db8::7",)),
        ("aaaa", "target.odd.test", ()),
        ("txt", "two.odd.test", (b"one piece", b"two")),
        ("txt", "bank.test", (b"v=spf1 ip4:192.0.2.0/24 -all",)),
        ("txt", "long.odd.test", (b"x" * 2000,)),
        ("mx", "mail.odd.test", ((10, "a.odd.test"), (20, "b.odd.test"))),
        ("mx", "nomail.odd.test", ((0, ""),)),
        ("mx", "escaped.odd.test", ()),
        ("ptr", "127.0.0.99", ("dialup-99.pool.test",)),
        ("ptr", "2001:db8::99", ()),
    ],
)
async def test_a_real_server_is_asked(knot: str, kind: str, name: str, values: tuple[object, ...]) -> None:
    resolver = DnsResolver((knot,))
    assert sorted(await getattr(resolver, kind)(name)) == sorted(values)
    assert sorted(await getattr(resolver, kind)(name)) == sorted(values)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a..b.test",
        ".test",
        "x" * 64 + ".test",
        ".".join(["x" * 60] * 5),
        "b\u00fccher.test",
        "\ud800.test",
    ],
)
async def test_a_name_that_cannot_exist_is_absent_and_nobody_is_asked(rogue: Make, name: str) -> None:
    server = await rogue(answers("192.0.2.1"))
    assert await DnsResolver((server.address,)).a(name) == ()
    assert server.asked == []


@pytest.mark.parametrize("name", ["a\0b.test", "a\\.b.test", "a b.test", '"q".test', "\r\n.test", "$(x)._spf.test"])
async def test_an_ugly_name_is_asked_byte_for_byte(rogue: Make, name: str) -> None:
    server = await rogue(answers("192.0.2.1"))
    assert await DnsResolver((server.address,)).a(name) == ("192.0.2.1",)
    assert len(server.asked) == 1


@pytest.mark.parametrize("behaviour", [truncated, wrong_id, wrong_question])
async def test_only_the_answer_to_our_question_counts(rogue: Make, behaviour: Behaviour) -> None:
    server = await rogue(behaviour)
    assert await DnsResolver((server.address,)).a("x.test") == ("192.0.2.1",)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("behaviour", [silent, rubbish])
async def test_no_answer_is_unsure_within_the_deadline(rogue: Make, behaviour: Behaviour) -> None:
    server = await rogue(behaviour)
    before = counted("timeout")
    async with asyncio.timeout(5):
        with pytest.raises(DnsUnsure, match="in time"):
            await DnsResolver((server.address,)).a("x.test")
    assert counted("timeout") == before + 1


@pytest.mark.parametrize("rcode", [SERVFAIL, REFUSED])
async def test_a_code_of_failure_is_unsure_and_not_remembered(rogue: Make, rcode: int) -> None:
    server = await rogue(answers(rcode=rcode))
    resolver = DnsResolver((server.address,))
    with pytest.raises(DnsUnsure, match="failed"):
        await resolver.txt("x.test")
    server.behaviour = answers('"now"')
    assert await resolver.txt("x.test") == (b"now",)


async def test_an_nxdomain_with_an_answer_and_a_ring_of_aliases_are_unsure(rogue: Make) -> None:
    server = await rogue(answers("192.0.2.1", rcode=NXDOMAIN))
    with pytest.raises(DnsUnsure):
        await DnsResolver((server.address,)).a("x.test")

    def ring(query: Message, transport: str) -> list[bytes]:
        text = f"id {query.id}\nflags QR RD RA\n;QUESTION\nx.test. IN A\n;ANSWER\n"
        return [dns.message.from_text(text + "x.test. 9 IN CNAME y.test.\ny.test. 9 IN CNAME x.test.").to_wire()]

    server.behaviour = ring
    with pytest.raises(DnsUnsure):
        await DnsResolver((server.address,)).a("x.test")


@pytest.mark.usefixtures("quick")
async def test_the_next_server_is_asked_when_the_first_is_silent_or_fails(rogue: Make) -> None:
    good = await rogue(answers("192.0.2.1"))
    for bad in (await rogue(silent), await rogue(answers(rcode=SERVFAIL))):
        assert await DnsResolver((bad.address, good.address)).a("x.test") == ("192.0.2.1",)


async def test_equal_questions_at_once_are_one_question(rogue: Make) -> None:
    server = await rogue(answers("192.0.2.1"))
    resolver = DnsResolver((server.address,))
    assert await asyncio.gather(*(resolver.a("x.test") for _ in range(50))) == [("192.0.2.1",)] * 50
    assert server.asked == ["x.test. A udp"]


@pytest.mark.usefixtures("quick")
async def test_a_caller_that_leaves_does_not_take_the_answer_from_the_others(rogue: Make) -> None:
    held: list[bytes] = []

    def hold(query: Message, transport: str) -> list[bytes]:
        held.append(right(query, "192.0.2.1").to_wire())
        return held if len(held) > 1 else []

    server = await rogue(hold)
    resolver = DnsResolver((server.address,))
    first, second = (asyncio.create_task(resolver.a("x.test")) for _ in range(2))
    await server.was_asked.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    async with asyncio.timeout(5):
        assert await second == ("192.0.2.1",)


async def test_the_cache_answers_again_also_what_is_absent(rogue: Make) -> None:
    server = await rogue(answers("192.0.2.1"))
    resolver = DnsResolver((server.address,))
    before = counted("cache")
    assert await resolver.a("x.test") == await resolver.a("X.TEST.") == ("192.0.2.1",)
    server.behaviour = answers(rcode=NXDOMAIN)
    assert await resolver.a("y.test") == await resolver.a("y.test") == ()
    assert server.asked == ["x.test. A udp", "y.test. A udp"]
    assert counted("cache") == before + 2


@pytest.mark.usefixtures("quick")
async def test_strangers_dead_names_switch_no_living_server_off(rogue: Make) -> None:
    """A recursive server is silent about a domain whose own servers are; it still answers our probe."""

    def selective(query: Message, transport: str) -> list[bytes]:
        return [] if "dead" in str(query.question[0].name) else [right(query).to_wire()]

    server = await rogue(selective)
    resolver = DnsResolver((server.address,))
    for n in range(dns_servers.SUSPECT_AFTER):
        with pytest.raises(DnsUnsure, match="in time"):
            await resolver.a(f"{n}.dead.test")
    assert await resolver.a("alive.test") == ()
    assert ". NS udp" in server.asked


@pytest.mark.usefixtures("quick")
async def test_a_dead_server_is_skipped_and_asked_again_when_it_is_back(
    rogue: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await rogue(silent)
    resolver = DnsResolver((server.address,))
    for n in range(dns_servers.SUSPECT_AFTER):
        with pytest.raises(DnsUnsure):
            await resolver.a(f"{n}.test")
    with pytest.raises(DnsUnsure, match="at present"):
        await asyncio.gather(*(resolver.a(f"z{n}.test") for n in range(20)))
    asked, before = len(server.asked), counted("breaker")
    with pytest.raises(DnsUnsure, match="at present"):
        await resolver.a("z.test")
    assert len(server.asked) == asked, "a server that is off is not asked"
    assert counted("breaker") == before + 1
    later = time.monotonic() + dns_servers.OFF_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    server.behaviour = lambda query, transport: [right(query).to_wire()]
    assert await resolver.a("z.test") == ()


async def test_answers_are_bounded_in_number_and_bytes(rogue: Make) -> None:
    def many(count: int) -> Behaviour:
        def behaviour(query: Message, transport: str) -> list[bytes]:
            reply = right(query, *(f"10.0.{n // 250}.{n % 250}" for n in range(count)))
            return [reply.to_wire(max_size=65535)] if transport == "tcp" else truncated(query, transport)

        return behaviour

    server = await rogue(many(500))
    resolver = DnsResolver((server.address,))
    assert len(await resolver.a("x.test")) == dns_wire.MAX_RECORDS
    server.behaviour = many(3000)
    with pytest.raises(DnsUnsure, match="failed"):
        await resolver.a("y.test")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("over_tcp", [[], [b""], [b"\xff" * 50], [b"\0\0\x81\x80" + bytes(8)]])
async def test_a_bad_answer_over_tcp_is_unsure(rogue: Make, over_tcp: list[bytes]) -> None:
    server = await rogue(lambda query, transport: over_tcp if transport == "tcp" else truncated(query, transport))
    with pytest.raises(DnsUnsure):
        await DnsResolver((server.address,)).a("x.test")


async def test_every_byte_of_an_answer_may_be_wrong(rogue: Make) -> None:
    """Invariant: values or DnsUnsure, whatever the reply holds."""
    damage = [(at, value) for at in range(90) for value in (0, 0x3F, 0xC0, 0xFF)]
    remaining = iter(damage * 2)

    def damaged(query: Message, transport: str) -> list[bytes]:
        if transport == "udp":
            return truncated(query, transport)
        wire = bytearray(right(query, "10 a.y.test.", "20 y.test.").to_wire())
        at, value = next(remaining)
        wire[at % len(wire)] = value
        return [bytes(wire)]

    server = await rogue(damaged)
    outcomes = set()
    for _ in damage:
        try:
            outcomes.add(type(await DnsResolver((server.address,)).mx("x.test")))
        except DnsUnsure:
            outcomes.add(DnsUnsure)
    assert outcomes == {tuple, DnsUnsure}


async def test_closing_ends_what_is_on_its_way(rogue: Make) -> None:
    server = await rogue(silent)
    resolver = DnsResolver((server.address,))
    task = asyncio.create_task(resolver.a("x.test"))
    await server.was_asked.wait()
    resolver.close()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_without_servers_nobody_knows() -> None:
    with pytest.raises(DnsUnsure):
        await DnsResolver(()).a("x.test")


@pytest.mark.parametrize("server", ["127.0.0.1", "ns.test:53", "127.0.0.1:0", "127.0.0.1:99999", "::1"])
def test_a_server_that_is_no_address_and_port_is_refused(server: str) -> None:
    with pytest.raises(ValueError):
        DnsResolver((server,))


def test_a_server_may_have_an_ipv6_address() -> None:
    assert dns_servers.parse("[::1]:5353") == dns_servers.Server("::1", 5353)


@pytest.mark.parametrize("address", ["", "127.0.0", "x.test", "1.2.3.4.5"])
async def test_ptr_wants_an_address(address: str) -> None:
    with pytest.raises(ValueError):
        await DnsResolver(("127.0.0.1:53",)).ptr(address)
