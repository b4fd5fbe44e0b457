"""How long the quarantine takes to answer, asked through the API of a real panel process as a user asks."""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import httpx
import msgspec

from control import auth
from control.ca import Authority
from control.local.configs import toml
from control.quarantine import pages
from control.quarantine.pages import Place
from syncd.config import Control, Etcd, Tls
from tests.bench.quarantine_mails import Mails
from tests.bench.quarantine_store import DOMAINS, Plan, account
from tests.servers import free_port

WARM = 10
"""Requests of each kind before those that count."""
SLOW_MS = 20
"""Statements of more than this have their plan kept."""
EXPLAINED = 5
PAGE = 50
DEEP = 1_000
"""Pages behind the first one, by cursor."""
START_WITHIN_S = 60.0
BIG = "d0.bench"
OWNER, OPERATOR = auth.make_token(), auth.make_token()
"""Of the big domain's account; of the operator."""


@dataclass(frozen=True)
class Kind:
    """One kind of request: what it is called, the most it may take, and what makes its path."""

    name: str
    most_ms: int
    path: Callable[[], str]
    method: str = "GET"
    is_operators: bool = False


class Asked:
    """What users ask: words by their frequency, addresses and items that are there."""

    def __init__(self, plan: Plan, rows: list[Any], cursor: str) -> None:
        self._draw = random.Random(3)
        self._mails = Mails(plan.corpus, DOMAINS, 3)
        self._rows, self._cursor = rows, cursor

    def kinds(self) -> list[Kind]:
        """Every kind of request, with its bound."""
        big, row = f"domain={BIG}", self._row
        return [
            Kind("newest page, the big domain", 30, lambda: f"/quarantine?{big}"),
            Kind(
                "newest page, a small domain",
                30,
                lambda: f"/quarantine?domain=d{self._draw.randrange(1, DOMAINS)}.bench",
                is_operators=True,
            ),
            Kind("newest page of all domains", 30, lambda: "/quarantine", is_operators=True),
            Kind("counts of all domains", 30, lambda: "/quarantine/counts", is_operators=True),
            Kind(f"page {DEEP:,} by cursor", 30, lambda: f"/quarantine?{big}&cursor={self._cursor}"),
            Kind("one word", 150, lambda: f"/quarantine?{big}&q={self._word()}"),
            Kind("two words", 150, lambda: f"/quarantine?{big}&q={self._word()}+{self._word()}"),
            Kind("a sender", 150, lambda: f"/quarantine?{big}&q=from:{row()['sender']}"),
            Kind(
                "words of a subject",
                150,
                lambda: f'/quarantine?{big}&q=subject:"{" ".join(row()["subject"].split()[:2])}"',
            ),
            Kind("a word of a body", 300, lambda: f"/quarantine?{big}&q=body:{self._word()}"),
            Kind("a piece of an address", 300, lambda: f"/quarantine?{big}&q=from:{row()['sender'][2:9]}"),
            Kind("a word that is nowhere", 150, lambda: f"/quarantine?{big}&q=qx{self._draw.randrange(10**6)}zz"),
            Kind("counts by reason", 30, lambda: f"/quarantine/counts?{big}"),
            Kind("an item", 30, lambda: f"/quarantine/{row()['id']}"),
            Kind("its bytes", 30, lambda: f"/quarantine/{row()['id']}/raw"),
            Kind("a release accepted", 30, lambda: f"/quarantine/{row()['id']}/release", "POST"),
        ]

    def _row(self) -> Any:
        return self._draw.choice(self._rows)

    def _word(self) -> str:
        return self._mails.words(1)[0] if self._draw.random() < 0.7 else str(self._row()["subject"]).split()[0]


def table(plan: Plan, directory: Path, requests: int) -> Iterator[str]:
    """Latencies, as Markdown; plans go to `plans.txt` in the directory."""
    rows, cursor = asyncio.run(_material(plan))
    asked = Asked(plan, rows, cursor)
    with panel(plan, directory) as client:
        measured = [(kind, _times(client, kind, requests)) for kind in asked.kinds()]
        mixed = sorted(each for _, times in measured for each in times)
    yield f"\n| through the API, {requests} requests each, warm | median ms | p99 ms | at most | status |"
    yield "|---|---|---|---|---|"
    for kind, times in measured:
        p99 = times[int(len(times) * 0.99)]
        over = "" if p99 <= kind.most_ms else "over"
        yield f"| {kind.name} | {median(times):.0f} | {p99:.0f} | {kind.most_ms} | {over} |"
    yield f"| all of them | {median(mixed):.0f} | {mixed[int(len(mixed) * 0.99)]:.0f} | | |"
    _explain(plan, directory, asked)
    yield f"\nPlans of statements above {SLOW_MS} ms: plans.txt in the bench's directory."


def _times(client: httpx.Client, kind: Kind, requests: int) -> list[float]:
    """Milliseconds of each request, sorted. Fails on an answer that is none."""
    times = []
    for number in range(requests + WARM):
        path = kind.path()
        begun = time.perf_counter()
        answer = client.request(
            kind.method,
            f"/api/v1{path}",
            json={} if kind.method == "POST" else None,
            headers={"Authorization": f"Bearer {OPERATOR if kind.is_operators else OWNER}"},
        )
        if number >= WARM:
            times.append((time.perf_counter() - begun) * 1000)
        assert answer.status_code in (200, 202, 422), (path, answer.status_code, answer.text[:300])
    return sorted(times)


@contextmanager
def panel(plan: Plan, directory: Path) -> Iterator[httpx.Client]:
    """A client of a panel process of its own, where `OWNER` and `OPERATOR` are let in."""
    asyncio.run(_let_in(plan))
    settings = _settings(plan, directory)
    config = directory / "control.toml"
    document = msgspec.to_builtins(settings)
    del document["etcd"]["tls"]  # TOML has no null
    config.write_text(toml(document))
    with (directory / "panel.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "control", "panel", "--config", str(config)], stdout=log, stderr=log
        )
    try:
        with httpx.Client(base_url=settings.panel_url, timeout=60, trust_env=False) as client:
            _wait_for(client, process)
            yield client
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.get("/api/v1/openapi.json").raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the panel does not answer; see panel.log")


def _settings(plan: Plan, directory: Path) -> Control:
    if not (directory / "ca.pem").exists():
        Authority.make().save(directory / "ca.pem", directory / "ca.key")
        (directory / "secret").write_bytes(b"s" * 32)
    port = free_port()
    return Control(
        panel_url=f"http://127.0.0.1:{port}",
        panel_host="127.0.0.1",
        panel_port=port,
        database=plan.dsn,
        etcd=Etcd(("127.0.0.1:9",)),
        tls=Tls(*(str(directory / name) for name in ("ca.pem", "cert.pem", "key.pem"))),
        ca_cert=str(directory / "ca.pem"),
        ca_key=str(directory / "ca.key"),
        receiver_host="127.0.0.1",
        receiver_port=9,
        receiver_journal_dir=str(directory / "journal"),
        packs=(directory / "store").as_uri(),
        prometheus_url="http://127.0.0.1:9",
        secret_file=str(directory / "secret"),
        open_packs_dir=str(directory / "open"),
    )


async def _let_in(plan: Plan) -> None:
    connection = await asyncpg.connect(plan.dsn)
    try:
        await auth.add_token(connection, account(0), "bench", OWNER)
        await auth.add_token(connection, None, "bench's operator", OPERATOR)
    finally:
        await connection.close()


async def _material(plan: Plan) -> tuple[list[Any], str]:
    """Some hundred rows of the big domain whose bodies are kept, and the cursor of its page `DEEP`."""
    connection = await asyncpg.connect(plan.dsn)
    mine = f"from quarantine where domain = (select number from domains where name = '{BIG}')"
    order = "order by received_at desc, id desc"
    try:
        rows = await connection.fetch(
            f"select id, sender, subject from (select * {mine} and pack_offset > 0 {order} limit 20000) q"
            " order by md5(id) limit 500",
            timeout=600,
        )
        deep = await connection.fetchrow(
            f"select received_at, id {mine} {order} offset least({PAGE * DEEP},"
            f" (select count(*) - {PAGE} {mine})) limit 1",
            timeout=600,
        )
    finally:
        await connection.close()
    return rows, pages.cursor(Place(deep["received_at"], deep["id"]))


def _explain(plan: Plan, directory: Path, asked: Asked) -> None:
    """Ask a few of each kind once more, with PostgreSQL writing down the plans of what is slow."""
    begun = (directory / "log").stat().st_size
    loaded = "session_preload_libraries = 'auto_explain'"
    for setting in (loaded, f"auto_explain.log_min_duration = {SLOW_MS}", "auto_explain.log_analyze = on"):
        asyncio.run(_run(plan, f"alter database postgres set {setting}"))
    try:
        with panel(plan, directory) as client:
            for kind in asked.kinds():
                _times(client, kind, EXPLAINED)
    finally:
        asyncio.run(_run(plan, "alter database postgres reset all"))
    with (directory / "log").open("rb") as log:
        log.seek(begun)
        (directory / "plans.txt").write_bytes(log.read())


async def _run(plan: Plan, statement: str) -> None:
    connection = await asyncpg.connect(plan.dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
