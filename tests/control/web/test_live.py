"""The propagation line as the browser gets it: an event stream of a real server, fed by the nodes' receipts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from control import auth
from control.serving import serve
from control.store import settings
from tests.control.web.conftest import PASSWORD, Panel
from tests.servers import free_port

WITHIN_S = 10.0
DIGEST = "d" * 32


@asynccontextmanager
async def served(panel: Panel) -> AsyncIterator[httpx.AsyncClient]:
    """The panel on a port, and a signed-in client."""
    port = free_port()
    server = asyncio.create_task(serve(panel.app, "127.0.0.1", port, panel.services.stopping))
    cookie = await auth.sign_in(panel.pool, "me@mine.test", PASSWORD, client_ip="127.0.0.1")
    base = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base, cookies={auth.COOKIE: cookie or ""}, timeout=WITHIN_S) as client:
        for _ in range(500):
            if await _answers(client):
                break
            await asyncio.sleep(0.02)
        yield client
    panel.services.stopping.set()
    await asyncio.wait_for(server, WITHIN_S)


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/sign-in")).status_code in (200, 303)
    except httpx.TransportError:
        return False


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, str]]:
    name, data = "", list[str]()
    async for line in lines:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data:"):
            data.append(line[5:].strip())
        elif not line and name:
            yield name, "\n".join(data)
            name, data = "", []


@pytest.fixture
async def two_nodes(panel: Panel) -> Panel:
    for name in ("mx1", "mx2"):
        await panel.pool.execute(
            "insert into nodes (name, spool_host, spool_port, smtp_host, smtp_port) values ($1, 'h', 1, 'h', 2)", name
        )
    return panel


def _publish(panel: Panel, revision: int) -> None:
    meta = {"generation": 1, "revision": revision, "digest": DIGEST, "count": 1}
    panel.services.receipts.wrote(json.dumps(meta).encode())


def _report(panel: Panel, node: str, revision: int, **more: Any) -> None:
    receipt = {
        "node": node,
        "generation": 1,
        "revision": revision,
        "digest": DIGEST,
        "state": "live",
        "at": 0.0,
        **more,
    }
    panel.services.receipts.told(json.dumps(receipt).encode())


async def test_the_line_names_who_is_awaited_and_ends_when_every_member_has_it(two_nodes: Panel) -> None:
    panel = two_nodes
    written = await settings.patch(panel.pool, panel.viewer, "domain", "mine.test", {"retention": {"days": 7}})
    panel.services.receipts.committed(written)
    _publish(panel, written.revision)
    async with served(panel) as client, client.stream("GET", f"/events/domains/mine.test/{written.revision}") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        events = _events(answer.aiter_lines())
        name, first = await anext(events)
        assert name == "spread"
        assert "Live on 0 of 2 nodes" in first
        _report(panel, "mx1", written.revision)
        _, second = await anext(events)
        assert "awaiting mx2" in second
        _report(panel, "mx2", written.revision)
        _, third = await anext(events)
        assert f"Live on 2 of 2 nodes, revision {written.revision}, " in third
        assert (await anext(events))[0] == "end"


async def test_a_node_that_reports_another_content_is_awaited(two_nodes: Panel) -> None:
    panel = two_nodes
    written = await settings.patch(panel.pool, panel.viewer, "domain", "mine.test", {"retention": {"days": 7}})
    _publish(panel, written.revision)
    _report(panel, "mx1", written.revision)
    _report(panel, "mx2", written.revision, digest="e" * 32)
    browser = await panel.browser()
    page = await browser.page(f"/domains/mine.test/settings?saved={written.revision}")
    assert "Live on 1 of 2 nodes" in page
    assert "awaiting mx2" in page


async def test_an_open_stream_never_holds_a_stop(two_nodes: Panel) -> None:
    panel = two_nodes
    async with served(panel) as client, client.stream("GET", "/events/domains/mine.test/999") as answer:
        events = _events(answer.aiter_lines())
        await anext(events)
        began = asyncio.get_running_loop().time()
        panel.services.stopping.set()
        with suppress(httpx.RemoteProtocolError):
            async for _ in events:
                pass
        assert asyncio.get_running_loop().time() - began < 2.5
