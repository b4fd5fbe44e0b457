"""What a joining node makes and writes for itself: key, certificate request, configuration."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control.ca import key_pem, make_key, make_request, write_private
from control.local.configs import toml

PROCESSES = ("worker1", "worker2", "follow", "spool")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the new node is to be reached."""

    name: str
    hostname: str
    host: str
    smtp_port: int
    spool_port: int
    metrics_port: int
    resolver: tuple[str, ...]

    def metrics(self, process: str) -> int:
        """The metrics port of one of its processes."""
        return self.metrics_port + PROCESSES.index(process)


def request(node: Place, token: str) -> tuple[bytes, dict[str, Any]]:
    """A new private key as PEM, and the body that asks to join with it."""
    key = make_key()
    body = {
        "token": token,
        "name": node.name,
        "spool_host": node.host,
        "spool_port": node.spool_port,
        "smtp_host": node.host,
        "smtp_port": node.smtp_port,
        "scrape": {process: f"http://{node.host}:{node.metrics(process)}/metrics" for process in PROCESSES},
        "csr": make_request(key, node.name).decode(),
    }
    return key_pem(key), body


def write(directory: Path, node: Place, key: bytes, answer: dict[str, Any]) -> Path:
    """Write keys, certificates and node.toml; returns the path of the latter."""
    directory = directory.absolute()
    tls = directory / "tls"
    for made in (tls, directory / "journal", directory / "lastgood", directory / "run"):
        made.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(tls / "key.pem", key)
    (tls / "cert.pem").write_text(answer["cert"])
    (tls / "ca.pem").write_text(answer["ca"])
    config = directory / "node.toml"
    config.write_text(toml(_config(directory, node, answer)))
    return config


def commands(config: Path, node: Place) -> list[str]:
    """What to start, one line a process."""
    python = f"{sys.executable} -m mx"
    workers = [f"worker --number {number}" for number in (1, 2)]
    lines = zip([*workers, "follow", "spool"], PROCESSES, strict=True)
    memcached = f"memcached -s {config.parent / 'run' / 'memcached'} -a 0700 -m 64 -U 0"
    started = [f"{python} {what} --config {config} --metrics-port {node.metrics(process)}" for what, process in lines]
    return [f"  {line}" for line in (memcached, *started)]


def _config(directory: Path, node: Place, answer: dict[str, Any]) -> dict[str, Any]:
    receiver_host, _, receiver_port = answer["receiver"].rpartition(":")
    tls = {
        "ca": str(directory / "tls/ca.pem"),
        "cert": str(directory / "tls/cert.pem"),
        "key": str(directory / "tls/key.pem"),
    }
    return {
        "name": node.name,
        "state_dir": str(directory),
        "panel_url": answer["panel_url"],
        "memcached_socket": str(directory / "run/memcached"),
        "resolver": list(node.resolver or ("127.0.0.1:53",)),
        "metrics_host": node.host,
        "smtp": {"host": node.host, "port": node.smtp_port, "hostname": node.hostname},
        "spool": {
            "socket": str(directory / "run/spool"),
            "journal_dir": str(directory / "journal"),
            "host": node.host,
            "port": node.spool_port,
            "receiver_host": receiver_host,
            "receiver_port": int(receiver_port),
        },
        "etcd": {"endpoints": answer["etcd"], "tls": tls},
        "tls": tls,
    }
