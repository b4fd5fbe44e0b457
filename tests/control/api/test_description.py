"""OpenAPI is true: what it describes is what a real server answers, and mxctl lives by it."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi import checks

from control import api, bootstrap
from control.api.operation import OPERATIONS
from control.app import Services, bare_app
from control.ca import Authority
from control.cli import hoisted
from control.receipts import Receipts
from control.serving import serve
from syncd.config import Node, load
from tests.control.api.conftest import add_node, settings_for
from tests.services import free_port

MODEST = settings(
    max_examples=12,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
    database=None,
)
CHECKED = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


class Server:
    """The API on a port, in a thread of its own with its own loop, as hypercorn serves it."""

    def __init__(self, database: str, directory: Path) -> None:
        self.settings = settings_for(database, directory)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.seeds = bootstrap.fresh()
        self._listening = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stopping: asyncio.Event
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> "Server":
        self._thread.start()
        assert self._listening.wait(20)
        for _ in range(200):
            try:
                httpx.get(f"{self.url}/api/v1/openapi.json", trust_env=False).raise_for_status()
                return self
            except httpx.ConnectError:
                self._stopped(0.05)
        raise AssertionError("the server does not listen")

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(20)

    def _stopped(self, within_s: float) -> bool:
        self._thread.join(within_s)
        return not self._thread.is_alive()

    async def _run(self) -> None:
        self._stopping = asyncio.Event()
        async with asyncpg.create_pool(self.settings.database, min_size=1, max_size=8) as pool:
            async with pool.acquire() as connection, connection.transaction():
                await bootstrap.ensure(connection, self.seeds)
            await add_node(pool, "mx1")
            app = bare_app(Services(self.settings, pool, Receipts()))
            api.register(app)
            self._listening.set()
            await serve(app, "127.0.0.1", self.port, self._stopping)


@pytest.fixture
def server(database: str, tmp_path: Path) -> Iterator[Server]:
    """A running server."""
    Authority.make().save(tmp_path / "ca.pem", tmp_path / "ca.key")
    with Server(database, tmp_path) as running:
        yield running


@pytest.mark.timeout(300)
def test_the_description_is_true(server: Server) -> None:
    """Schemathesis sends what the description allows, to things that are there, and reads each answer against it."""
    schema = schemathesis.openapi.from_url(f"{server.url}/api/v1/openapi.json")
    mxctl(server, "domain", "create", "real.test", "--next-hop", "127.0.0.1", "--no-wait")
    real = {"domain": "real.test", "account": server.seeds["account"], "node": "mx1"}

    def check(case: Any) -> None:
        if "wait" in (case.query or {}):
            case.query["timeout"] = 0  # the node of this test never answers
        if case.method != "DELETE":
            case.path_parameters = {name: real.get(name, value) for name, value in (case.path_parameters or {}).items()}
        token = server.seeds["token" if "/account/" in case.path else "operator_token"]
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKED)

    operations = [each.ok() for each in schema.get_all_operations()]
    assert len(operations) == len(OPERATIONS)
    for operation in operations:
        MODEST(given(case=operation.as_strategy())(check))()


def mxctl(server: Server, *arguments: str, status: int = 0, operator: bool = True, **environment: str) -> str:
    """What mxctl prints; fails unless it ends with `status`."""
    token = server.seeds["operator_token" if operator else "token"]
    known = {"MXCTL_URL": server.url, "MXCTL_TOKEN": token, "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "control.cli", *arguments],
        env={**known, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status in (0, 1) else done.stderr


def test_mxctl(server: Server, tmp_path: Path) -> None:
    made = mxctl(server, "domain", "create", "example.test", "--next-hop", "127.0.0.1:2525/required", "--no-wait")
    assert "awaiting mx1 (no report from it)" in made
    listed = json.loads(mxctl(server, "domain", "list", "--json", operator=False))
    assert listed["items"][0]["next_hops"][0]["tls"] == "required"
    assert "127.0.0.1:2525" in mxctl(server, "domain", "show", "example.test")
    mxctl(server, "settings", "set", "example.test", "scoring.refuse_at", "7", "--no-wait", operator=False)
    mxctl(server, "settings", "set", "example.test", "scoring.tag", "[X]", "--no-wait", operator=False)
    wanted = {"refuse_at": 7, "tag": "[X]"}
    assert json.loads(mxctl(server, "--json", "settings", "get", "example.test", "scoring")) == wanted
    told = mxctl(server, "settings", "history", "example.test")
    assert 'scoring.tag: – → "[X]"' in told
    assert "token owner by cli" in told
    first = json.loads(mxctl(server, "settings", "history", "example.test", "--json"))["items"][-2]["revision"]
    mxctl(server, "settings", "rollback", "example.test", str(first), "--no-wait")
    assert "[X]" not in mxctl(server, "settings", "get", "example.test")
    taken = json.loads(mxctl(server, "settings", "bulk", "retention.days", "9", "--all", "--no-wait", "--json"))
    assert "(running): of" in mxctl(server, "settings", "bulk-status", taken["id"])
    mxctl(server, "settings", "bulk", "retention.days", "9", "--file", str(tmp_path / "none"), status=2)
    mxctl(server, "list", "add", "example.test", "deny", "spam.test", "--note", "a note", "--no-wait")
    assert "spam.test" in mxctl(server, "list", "show", "example.test")
    mxctl(server, "list", "remove", "example.test", "spam.test", "--no-wait")
    assert "unheard" in mxctl(server, "node", "list")
    assert "it never reported" in mxctl(server, "doctor", status=1)
    token = json.loads(mxctl(server, "node", "token", "--json"))["token"]
    place = ["--name", "mx2", "--directory", str(tmp_path / "mx2"), "--smtp-port", "2600", "--spool-port", "2601"]
    assert "-m mx follow" in mxctl(server, "node", "join", server.url, "--token", token, *place)
    node = load(tmp_path / "mx2" / "node.toml", Node)
    assert (node.name, Path(node.tls.key).stat().st_mode & 0o777) == ("mx2", 0o600)
    assert "draining" in mxctl(server, "node", "drain", "mx2")
    mxctl(server, "node", "remove", "mx2", "--yes")
    assert "mx2" not in mxctl(server, "status")


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "says"),
    [
        (("settings", "set", "example.test", "scoring.tag", "5", "--no-wait"), {}, 4, "there is no domain"),
        (("settings", "set", "example.test", "scoring", "5"), {}, 2, "content.words"),
        (("domain", "create", "a.test", "--next-hop", "mx.test:smtp"), {}, 2, "mail.example.org:25"),
        (("domain", "list"), {"MXCTL_TOKEN": "wrong"}, 4, "MXCTL_TOKEN"),
        (("domain", "list"), {"MXCTL_URL": "http://127.0.0.1:9"}, 3, "does not answer"),
        (("domain", "list"), {"MXCTL_URL": "", "MXCTL_TOKEN": "", "VAR": "none"}, 2, "make up"),
        (("domain", "list"), {"MXCTL_URL": "no url"}, 3, "does not answer"),
    ],
)
def test_mxctl_says_what_to_do(
    server: Server, arguments: tuple[str, ...], environment: dict[str, str], status: int, says: str
) -> None:
    assert says in mxctl(server, *arguments, status=status, **environment)


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        (["domain", "list", "--json"], ["--json", "domain", "list"]),
        (["--json", "domain", "list"], ["--json", "domain", "list"]),
        (["domain", "show", "--", "--json"], ["domain", "show", "--", "--json"]),
        ([], []),
    ],
)
def test_json_may_stand_anywhere(given_: list[str], wanted: list[str]) -> None:
    assert hoisted(given_) == wanted
