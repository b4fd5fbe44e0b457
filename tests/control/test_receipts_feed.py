"""The feed of receipts over a real etcd that is killed, frozen out and emptied."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from control.receipts import AWAY, Receipts
from control.receipts_feed import follow
from syncd import keys
from tests.services import Etcd

WITHIN_S = 20


@dataclass(frozen=True)
class Put:
    """One key."""

    key: str
    value: bytes | None


@dataclass(frozen=True)
class Listed:
    """Keys at a revision."""

    revision: int
    items: Sequence[Put]


class Gateway:
    """The feed's view of etcd over its JSON gateway (etcd's "grpc gateway"): small, and independent of our client."""

    def __init__(self, etcd: Etcd) -> None:
        self._url = f"http://{etcd.endpoint}/v3"
        self._client = httpx.AsyncClient(timeout=5, trust_env=False)

    async def range(self, prefix: str) -> Listed:
        found = await self._post("/kv/range", _span(prefix))
        kvs = found.get("kvs", ())
        return Listed(int(found["header"]["revision"]), [Put(_text(each["key"]), _bytes(each)) for each in kvs])

    async def watch(self, prefix: str, start_revision: int) -> AsyncIterator[Sequence[Put]]:
        body = {"create_request": {**_span(prefix), "start_revision": start_revision}}
        async with self._client.stream("POST", f"{self._url}/watch", json=body, timeout=None) as answer:
            async for line in answer.aiter_lines():
                events = json.loads(line)["result"].get("events", ())
                yield [
                    Put(_text(each["kv"]["key"]), None if each.get("type") == "DELETE" else _bytes(each["kv"]))
                    for each in events
                ]

    async def put(self, key: str, value: dict[str, Any] | str) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        await self._post("/kv/put", {"key": _code(key), "value": _code(text)})

    async def delete(self, key: str) -> None:
        await self._post("/kv/deleterange", {"key": _code(key)})

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = await self._client.post(self._url + path, json=body)
        answer.raise_for_status()
        return answer.json()


@pytest.fixture
async def receipts() -> Receipts:
    return Receipts()


def meta(revision: int) -> dict[str, Any]:
    return {"generation": 1, "revision": revision, "digest": f"d{revision}", "count": 1}


def receipt(node: str, revision: int) -> dict[str, Any]:
    return {**meta(revision), "node": node, "state": "live", "at": 1.0, "unreadable": [], "version": "1", "pid": 1}


@dataclass(frozen=True)
class Wanted:
    """A change to wait for."""

    revision: int
    members: tuple[str, ...]
    generation: int = 1
    key: str = ""


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not check():  # noqa: ASYNC110 - the state wakes only who waits for a revision
            await asyncio.sleep(0.01)


async def test_it_lists_watches_and_lives_through_a_restart(make_etcd: Callable[..., Etcd], receipts: Receipts) -> None:
    etcd = make_etcd()
    gateway = Gateway(etcd)
    await gateway.put(keys.META, meta(1))
    await gateway.put(keys.receipt("mx1"), receipt("mx1", 1))
    task = asyncio.create_task(follow(gateway, receipts, (httpx.HTTPError, OSError)))
    try:
        assert await receipts.wait_applied(Wanted(1, ("mx1",)), WITHIN_S), "what was there is listed"
        await gateway.put(keys.receipt("mx2"), "no receipt {")
        await gateway.put(keys.META, meta(2))
        for name in ("mx1", "mx2"):
            await gateway.put(keys.receipt(name), receipt(name, 2))
        assert await receipts.wait_applied(Wanted(2, ("mx1", "mx2")), WITHIN_S), "what comes is seen"
        await gateway.delete(keys.receipt("mx2"))
        await until(lambda: receipts.snapshot()["mx2"].receipt.state == AWAY)
        assert receipts.nodes(Wanted(2, ("mx2",)))["mx2"].revision == 2, "what it said last is not forgotten"

        etcd.kill()
        assert not await receipts.wait_applied(Wanted(3, ("mx1",)), 0.3)
        etcd.start()
        await gateway.put(keys.META, meta(3))
        await gateway.put(keys.receipt("mx1"), receipt("mx1", 3))
        assert await receipts.wait_applied(Wanted(3, ("mx1",)), WITHIN_S), "after a restart it goes on"
        assert not task.done()
    finally:
        task.cancel()


async def test_a_report_may_overtake_what_it_reports(make_etcd: Callable[..., Etcd], receipts: Receipts) -> None:
    gateway = Gateway(make_etcd())
    task = asyncio.create_task(follow(gateway, receipts, (httpx.HTTPError, OSError)))
    try:
        await gateway.put(keys.receipt("mx1"), receipt("mx1", 5))
        await until(lambda: "mx1" in receipts.snapshot())
        assert receipts.nodes(Wanted(5, ("mx1",)))["mx1"].agrees is None
        await gateway.put(keys.META, meta(5))
        assert await receipts.wait_applied(Wanted(5, ("mx1",)), WITHIN_S)
    finally:
        task.cancel()


async def test_it_waits_for_an_etcd_that_is_not_there_yet(make_etcd: Callable[..., Etcd], receipts: Receipts) -> None:
    etcd = make_etcd()
    etcd.kill()
    task = asyncio.create_task(follow(Gateway(etcd), receipts, (httpx.HTTPError, OSError)))
    await asyncio.sleep(0.2)
    etcd.start()
    await Gateway(etcd).put(keys.META, meta(1))
    await until(lambda: receipts.published == (1, 1))
    task.cancel()


def _span(prefix: str) -> dict[str, str]:
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return {"key": _code(prefix), "range_end": _code(end)}


def _code(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(code: str) -> str:
    return base64.b64decode(code).decode()


def _bytes(kv: dict[str, Any]) -> bytes:
    return base64.b64decode(kv.get("value", ""))
