"""Name servers for these tests: a real Knot over the demo's zones, and ones that misbehave over UDP and TCP."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop

from control.local import demo_zones, resolver
from control.local.layout import Layout
from tests.cluster import free_port_base
from tests.control.local.test_resolver import Knot
from tests.mx.checks.rogue import Behaviour, Rogue

ZONE = """\
@ 300 SOA ns.odd.test. hostmaster.odd.test. 1 3600 600 3600 7
@ 300 NS ns.odd.test.
ns 300 A 127.0.0.1
alias 40 CNAME target
target 90 A 192.0.2.7
long 60 TXT "{piece}" "{piece}" "{piece}" "{piece}" "{piece}" "{piece}" "{piece}" "{piece}"
two 60 TXT "one " "piece"
two 60 TXT "two"
six 60 AAAA 2001:db8::7
mail 60 MX 20 b.odd.test.
mail 60 MX 10 a.odd.test.
nomail 60 MX 0 .
odd\\.dot 60 A 192.0.2.8
escaped 60 MX 10 with\\032space.odd.test.
"""


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A worker runs on uvloop."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def knot() -> Iterator[str]:
    """A real name server with the demo's zones and `odd.test`, as "host:port"."""
    var = Path(tempfile.mkdtemp(prefix="mxf", dir="/tmp"))
    layout = Layout(var, free_port_base())
    layout.run.mkdir(exist_ok=True)
    demo_zones.write(var / "zones")
    (var / "zones" / "odd.test.zone").write_text(ZONE.replace("{piece}", "x" * 250))
    resolver.choose_upstream(layout, "")
    server = Knot(layout)
    server.start()
    try:
        yield f"127.0.0.1:{layout.port('resolver')}"
    finally:
        server.stop()
        shutil.rmtree(var, ignore_errors=True)
        shutil.rmtree(layout.run, ignore_errors=True)


@pytest.fixture
async def rogue() -> AsyncIterator[Callable[[Behaviour], Awaitable[Rogue]]]:
    """Factory of name servers that behave as the test says."""
    async with AsyncExitStack() as stack:

        async def make(behaviour: Behaviour) -> Rogue:
            return await stack.enter_async_context(Rogue(behaviour))

        yield make
