"""Whether a part of the cluster serves: asked of the part itself, never of its process table entry.

Each check answers "" when the part is ready, else what it lacks, in words; it takes two seconds at most.
"""

import asyncio
import socket
from collections.abc import Callable
from functools import partial

import asyncpg
import dns.exception
import dns.message
import dns.query
import httpx

from control.local import configs
from control.local.layout import HOST, NODE_PROCESSES, Layout, NodePlace

WITHIN_S = 2.0

Check = Callable[[], str]


def checks(layout: Layout) -> dict[str, Check]:
    """The check of every part that exists once, by its name."""
    found: dict[str, Check] = {
        "postgres": partial(_postgres, layout),
        "etcd": partial(_http, f"http://{layout.address('etcd-metrics')}/health"),
        "resolver": partial(_resolver, layout),
        "caretaker": lambda: "",
        "mailbox": partial(_smtp, layout.port("mailbox")),
        "prometheus": partial(_http, f"http://{layout.address('prometheus')}/-/ready"),
    }
    for name in ("publisher", "receiver", "panel", "janitor"):
        found[name] = partial(_http, f"http://{layout.address(name + '-metrics')}/ready")
    return found


def node_checks(place: NodePlace) -> dict[str, Check]:
    """The check of every process of a node, by its name."""
    found: dict[str, Check] = {f"{place.name}.memcached": partial(_memcached, str(place.socket("memcached")))}
    for process in NODE_PROCESSES:
        url = place.metrics_url(process).removesuffix("metrics") + "ready"
        found[f"{place.name}.{process}"] = partial(_http, url)
    return found


def _http(url: str) -> str:
    try:
        answer = httpx.get(url, timeout=WITHIN_S, trust_env=False)
    except httpx.HTTPError as error:
        return f"{url}: {error}"
    return "" if answer.status_code == 200 else f"{url}: {answer.status_code} {answer.text.strip()[:200]}"


def _smtp(port: int) -> str:
    return _says(socket.AF_INET, (HOST, port), b"", b"220")


def _memcached(path: str) -> str:
    return _says(socket.AF_UNIX, path, b"version\r\n", b"VERSION")


def _says(family: socket.AddressFamily, address: tuple[str, int] | str, ask: bytes, expected: bytes) -> str:
    with socket.socket(family) as probe:
        probe.settimeout(WITHIN_S)
        try:
            probe.connect(address)
            probe.sendall(ask)
            said = probe.recv(200)
        except OSError as error:
            return str(error)
    return "" if said.startswith(expected) else f"said {said!r}"


def _resolver(layout: Layout) -> str:
    question = dns.message.make_query("example.test", "SOA")
    try:
        answer = dns.query.udp(question, HOST, timeout=WITHIN_S, port=layout.port("resolver"))
    except (dns.exception.DNSException, OSError) as error:
        return str(error)
    return "" if answer.answer else "does not know example.test"


def _postgres(layout: Layout) -> str:
    async def ask() -> None:
        connection = await asyncpg.connect(configs.dsn(layout), database="postgres", timeout=WITHIN_S)
        try:
            await connection.execute("SELECT 1", timeout=WITHIN_S)
        finally:
            await connection.close(timeout=WITHIN_S)

    try:
        asyncio.run(ask())
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        return str(error)
    return ""
