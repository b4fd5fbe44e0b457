"""The panel over a real PostgreSQL: two accounts, a domain each, and a signed-in browser without a browser."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from quart import Quart

from control import auth, passwords
from control.app import Services, create_app
from control.auth import Viewer
from control.receipts import Receipts
from control.store import domains
from syncd.config import Control, Etcd, Tls
from syncd.layers import NextHop

PASSWORD = "correct horse battery"
MINE, THEIRS = "A" * 26, "B" * 26
NOWHERE = "http://127.0.0.1:9"
"""The discard port of this machine, on which nothing listens: a Prometheus that is away."""


@dataclass
class Panel:
    """The application and what it stands on."""

    app: Quart
    pool: Any
    services: Services
    viewer: Viewer

    async def browser(self, email: str = "me@mine.test") -> "Browser":
        """A browser that has signed in."""
        browser = Browser(self.app.test_client())
        answer = await browser.client.post("/sign-in", form={"email": email, "password": PASSWORD})
        assert answer.status_code == 303, await answer.get_data(as_text=True)
        return browser


class Browser:
    """A test client that reads the form token off a page, as a browser does."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def page(self, path: str, status: int = 200) -> str:
        """The text of a page."""
        answer = await self.client.get(path)
        text: str = await answer.get_data(as_text=True)
        assert answer.status_code == status, text
        return text

    async def send(self, path: str, form: dict[str, Any] | None = None, *, token: str | None = None) -> Any:
        """Post a form with the session's token (or with `token`)."""
        if token is None:
            found = re.search(r'name="csrf" value="([^"]+)"', await self.page("/domains"))
            assert found is not None
            token = found[1]
        return await self.client.post(path, form={**(form or {}), "csrf": token})


@pytest.fixture
async def panel(database: str, tmp_path: Path) -> AsyncIterator[Panel]:
    """The panel with an account of mine and one of theirs; nothing but PostgreSQL is there."""
    pool = await asyncpg.create_pool(database, min_size=1, max_size=4)
    for account, email in ((MINE, "me@mine.test"), (THEIRS, "they@theirs.test")):
        await _account(pool, account, email)
    services = Services(_settings(database, tmp_path), pool, Receipts())
    app = create_app(services.settings, services=services)
    yield Panel(app, pool, services, Viewer("me@mine.test", MINE, "owner", "panel"))
    await pool.close()


async def _account(pool: Any, account: str, email: str) -> None:
    await pool.execute("insert into accounts (id, name) values ($1, $1)", account)
    await pool.execute(
        "insert into users (id, account_id, email, password, role) values ($1, $1, $2, $3, 'owner')",
        account,
        email,
        await passwords.digest(PASSWORD),
    )
    viewer = Viewer(email, account, "owner", "panel")
    await domains.create(pool, viewer, account, email.split("@")[1], [NextHop("127.0.0.1", 25)])


@pytest.fixture(autouse=True)
def _unthrottled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with nobody's tries counted."""
    for throttle in (auth._by_address, auth._by_account):
        monkeypatch.setattr(throttle, "_tries", type(throttle._tries)())


def _settings(database: str, tmp_path: Path) -> Control:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(32)))
    none = str(tmp_path / "none")
    return Control(
        panel_url="http://127.0.0.1",
        panel_host="127.0.0.1",
        panel_port=0,
        database=database,
        etcd=Etcd(("127.0.0.1:9",)),
        tls=Tls(none, none, none),
        ca_cert=none,
        ca_key=none,
        receiver_host="127.0.0.1",
        receiver_port=0,
        receiver_journal_dir=str(tmp_path / "journal"),
        packs=f"file://{tmp_path}/packs",
        prometheus_url=NOWHERE,
        secret_file=str(secret),
    )
