"""The application over a real, migrated database; receipts are told by the test as the nodes would tell them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from quart import Quart

from control import api, bootstrap
from control.app import Services, bare_app
from control.auth import Viewer
from control.receipts import Receipts
from syncd.config import Control, Etcd, Tls
from syncd.layers import digest

OPERATOR = Viewer("tester", None, "operator", "api")


def settings_for(database: str, directory: Path) -> Control:
    """Configuration of a control plane whose other parts are not there."""
    tls = Tls(*(str(directory / name) for name in ("ca.pem", "cert.pem", "key.pem")))
    return Control(
        panel_url="http://127.0.0.1:9",
        panel_host="127.0.0.1",
        panel_port=0,
        database=database,
        etcd=Etcd(("127.0.0.1:9",)),
        tls=tls,
        ca_cert=str(directory / "ca.pem"),
        ca_key=str(directory / "ca.key"),
        receiver_host="127.0.0.1",
        receiver_port=9,
        receiver_journal_dir=str(directory),
        packs=directory.as_uri(),
        prometheus_url="http://127.0.0.1:9",
        secret_file=str(directory / "secret"),
        scrape={"panel": "http://127.0.0.1:9/metrics"},
        resolver=("127.0.0.1:9",),
    )


@dataclass
class Door:
    """The API as one client with one token sees it."""

    app: Quart
    token: str

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> "Reply":
        """One request; `body` as JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) else None if body is None else msgspec.json.encode(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.app.test_client().open(
            "/api/v1" + path,
            method=method,
            data=data,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **named},
        )
        return Reply(answer.status_code, await answer.get_data(as_text=False), answer.headers)


@dataclass
class Reply:
    """An answer of the API."""

    status: int
    content: bytes
    headers: Any

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.content)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Any]:
    """A pool on a migrated database."""
    async with asyncpg.create_pool(database, min_size=1, max_size=8) as made:
        yield made


@pytest.fixture
async def seeds(pool: Any) -> dict[str, str]:
    """What bootstrap makes."""
    made = bootstrap.fresh()
    async with pool.acquire() as connection, connection.transaction():
        await bootstrap.ensure(connection, made)
    return made


@pytest.fixture
def receipts() -> Receipts:
    """The state that the watch on etcd would feed."""
    return Receipts()


@pytest.fixture
def app(pool: Any, database: str, receipts: Receipts, tmp_path: Path) -> Quart:
    """The application without the panel's pages."""
    made = bare_app(Services(settings_for(database, tmp_path), pool, receipts))
    api.register(made)
    return made


@pytest.fixture
def operator(app: Quart, seeds: dict[str, str]) -> Door:
    """The operator's door."""
    return Door(app, seeds["operator_token"])


@pytest.fixture
def owner(app: Quart, seeds: dict[str, str]) -> Door:
    """The door of the demo account's owner."""
    return Door(app, seeds["token"])


@pytest.fixture
async def stranger(app: Quart, operator: Door) -> Door:
    """The door of another account."""
    account = (await operator.call("POST", "/accounts", {"name": "Other"})).json["id"]
    token = (await operator.call("POST", f"/accounts/{account}/tokens", {"name": "t"})).json["token"]
    return Door(app, token)


@pytest.fixture
async def domain(operator: Door, seeds: dict[str, str]) -> str:
    """A domain of the demo account."""
    body = {"name": "example.test", "next_hops": [{"host": "127.0.0.1", "port": 2525}], "account": seeds["account"]}
    reply = await operator.call("POST", "/domains", body)
    assert reply.status == 201, reply.content
    return "example.test"


Report = Callable[..., Awaitable[None]]


@pytest.fixture
def report(pool: Any, receipts: Receipts) -> Report:
    """Publish what the outbox holds and have nodes report it: `await report("mx1", "mx2")`."""

    async def tell(*names: str, state: str = "live", digest_of: str = "", unreadable: tuple[str, ...] = ()) -> None:
        row = await pool.fetchrow("select generation, revision from revision_counter")
        told = digest_of or digest(str(row["revision"]).encode())
        meta = {"generation": row["generation"], "revision": row["revision"], "count": 0}
        receipts.wrote(msgspec.json.encode({**meta, "digest": digest(str(row["revision"]).encode())}))
        for name in names:
            receipt = {**meta, "node": name, "digest": told, "state": state, "at": 0.0, "unreadable": unreadable}
            receipts.told(msgspec.json.encode(receipt))

    return tell


async def until(check: Callable[[], Awaitable[Any]], within_s: float = 10) -> None:
    """Wait until the database shows something; it tells nobody by itself."""
    async with asyncio.timeout(within_s):
        while not await check():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


async def add_node(pool: Any, name: str) -> None:
    """A member without the dialogue of joining."""
    await pool.execute(
        "insert into nodes (name, spool_host, spool_port, smtp_host, smtp_port, scrape)"
        " values ($1, '127.0.0.1', 1, '127.0.0.1', 2, $2::text::jsonb)",
        name,
        '{"follow": "http://127.0.0.1:3/metrics"}',
    )
