"""Reaching a next hop: names, addresses of both families, and hosts that are no hosts."""

import asyncio
import socket

import pytest
from msgspec.structs import replace

from syncd.layers import NextHop
from syncd.nexthop import Timeouts
from tests.nexthops import Talker, scripted
from tests.servers import free_port
from tests.syncd.nexthop.sending import hand_over, told


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.mark.parametrize("listens_on", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
@pytest.mark.parametrize("is_named", [False, True], ids=["literal", "name"])
async def test_either_family_is_reached(listens_on: str, is_named: bool) -> None:
    names = {address[4][0] for address in socket.getaddrinfo("localhost", 25)}
    if is_named and listens_on not in names:
        pytest.skip(f"here localhost is not {listens_on}")
    async with scripted(Talker(), listens_on) as hop:
        answer = (await hand_over(replace(hop, host="localhost") if is_named else hop))["a@x.test"]
    assert answer.taken
    assert answer.hop == f"{'localhost' if is_named else listens_on}:{hop.port}"


@pytest.mark.parametrize(
    "host", ["no-such-host.invalid", "", ".", "a..b", "x" * 300, "two words", "a\x00b", "[::1]", "999.1.1.1", "-"]
)
async def test_hosts_that_cannot_be_resolved_are_down(host: str) -> None:
    async with asyncio.timeout(8):
        answer = (await hand_over(NextHop(host, free_port()), timeouts=Timeouts(connect_s=5, total_s=6)))["a@x.test"]
    assert (told(answer), answer.enhanced, answer.down) == ("451? connect", "4.4.1", True)
    assert answer.text.isprintable()


async def test_an_address_that_swallows_packets_costs_no_more_than_its_bound() -> None:
    with socket.socket() as full:  # a backlog that is full drops what knocks
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        knocking = [socket.socket() for _ in range(4)]
        for one in knocking:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        try:
            async with asyncio.timeout(3):
                hop = NextHop("127.0.0.1", full.getsockname()[1])
                answer = (await hand_over(hop, timeouts=Timeouts(connect_s=0.5, total_s=2)))["a@x.test"]
        finally:
            for one in knocking:
                one.close()
    assert told(answer) == "451? connect"
