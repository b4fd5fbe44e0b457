"""The configuration files of a cluster on one machine, written from its layout.

What must outlive a restart (keys, the secret, the database password) is made once and kept; the rest is
written anew at each start, so that a newer checkout brings its newer configuration.
"""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from control.ca import RECEIVER, Authority, write_private
from control.local.layout import CONTROL_PROCESSES, HOST, ROOT, Layout, NodePlace
from syncd.config import Tls

SECRET_BYTES = 32
DATABASE = "mxfleet"


def write_all(layout: Layout) -> None:
    """Write everything the control plane and the parts that exist once need; nodes get theirs by joining."""
    for name in (
        "log",
        "supervisor/conf.d",
        "zones",
        "mailbox",
        "etcd",
        "prometheus",
        "packs",
        "receiver/journal",
        "receiver/packs",
    ):
        (layout.var / name).mkdir(parents=True, exist_ok=True)
    authority = load_authority(layout)
    for name, uri in (("receiver", RECEIVER), ("etcd", "")):
        directory = layout.var / name / "tls"
        if not (directory / "ca.pem").exists():
            authority.write_pair(directory, name, uri=uri, hosts=(HOST, "localhost"))
    for path, size in ((layout.var / "secret", SECRET_BYTES), (password_file(layout), 0)):
        if not path.exists():
            write_private(path, secrets.token_bytes(size) if size else secrets.token_urlsafe(24).encode())
    write_private(layout.control_config, _control(layout).encode())
    _write(layout.var / "prometheus" / "prometheus.yml", _prometheus(layout))


def load_authority(layout: Layout) -> Authority:
    """The installation's CA; made at the first call."""
    cert, key = layout.var / "ca" / "ca.pem", layout.var / "ca" / "ca.key"
    if not cert.exists():
        cert.parent.mkdir(parents=True, exist_ok=True)
        Authority.make().save(cert, key)
    return Authority.load(cert, key)


def password_file(layout: Layout) -> Path:
    """File with the password of PostgreSQL's superuser."""
    return layout.var / "database-password"


def dsn(layout: Layout) -> str:
    """Address of the database, password included."""
    password = password_file(layout).read_text()
    return f"postgresql://{DATABASE}:{password}@{layout.address('postgres')}/{DATABASE}"


def tls_files(directory: Path) -> Tls:
    """The three PEM files in a directory."""
    return Tls(*(str(directory / name) for name in ("ca.pem", "cert.pem", "key.pem")))


def write_node(layout: Layout, place: NodePlace, etcd: tuple[str, ...], receiver: str) -> None:
    """Write a joined node's configuration; its certificates lie in its `tls` and `smtp` directories already."""
    for name in ("lastgood", "journal", "smtp"):
        (place.directory / name).mkdir(parents=True, exist_ok=True)
    receiver_host, _, receiver_port = receiver.rpartition(":")
    tls = tls_table(tls_files(place.directory / "tls"))
    document = {
        "name": place.name,
        "state_dir": str(place.directory),
        "panel_url": layout.panel_url,
        "memcached_socket": str(place.socket("memcached")),
        "resolver": [layout.address("resolver")],
        "smtp": {
            "host": HOST,
            "port": place.port("smtp"),
            "hostname": place.hostname,
            "cert": str(place.directory / "smtp" / "cert.pem"),
            "key": str(place.directory / "smtp" / "key.pem"),
        },
        "spool": {
            "socket": str(place.socket("spool")),
            "journal_dir": str(place.directory / "journal"),
            "host": HOST,
            "port": place.port("spool"),
            "receiver_host": receiver_host,
            "receiver_port": int(receiver_port),
        },
        "etcd": {"endpoints": list(etcd), "tls": tls},
        "tls": tls,
    }
    _write(place.config, toml(document))


def tls_table(tls: Tls) -> dict[str, str]:
    """A TLS table of our TOML files."""
    return {"ca": tls.ca, "cert": tls.cert, "key": tls.key}


def toml(document: Mapping[str, Any], prefix: str = "") -> str:
    """A TOML text of strings, numbers, booleans, lists of those, and tables of the same.

    JSON's strings, numbers and arrays of these are TOML's too (TOML 1.0, "Basic strings").
    """
    tables = {key: value for key, value in document.items() if isinstance(value, Mapping)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in document.items() if key not in tables]
    for key, table in tables.items():
        lines += ["", f"[{prefix}{key}]", toml(table, f"{prefix}{key}.").rstrip("\n")]
    return "\n".join(lines) + "\n"


def _control(layout: Layout) -> str:
    receiver, ca = layout.var / "receiver", layout.var / "ca"
    tls = tls_table(tls_files(receiver / "tls"))
    document = {
        "panel_url": layout.panel_url,
        "panel_host": HOST,
        "panel_port": layout.port("panel"),
        "database": dsn(layout),
        "ca_cert": str(ca / "ca.pem"),
        "ca_key": str(ca / "ca.key"),
        "receiver_host": HOST,
        "receiver_port": layout.port("receiver"),
        "receiver_journal_dir": str(receiver / "journal"),
        "packs": (layout.var / "packs").as_uri(),
        "open_packs_dir": str(receiver / "packs"),
        "prometheus_url": f"http://{layout.address('prometheus')}",
        "secret_file": str(layout.var / "secret"),
        "etcd": {"endpoints": [layout.address("etcd")], "tls": tls},
        "tls": tls,
        "scrape": {name: f"http://{layout.address(name + '-metrics')}/metrics" for name in CONTROL_PROCESSES},
    }
    return toml(document)


def _prometheus(layout: Layout) -> str:
    """Scrapes what the panel's service discovery names, and etcd and Prometheus themselves. JSON is YAML."""
    themselves = {"etcd": layout.address("etcd-metrics"), "prometheus": layout.address("prometheus")}
    static = [{"targets": [address], "labels": {"process": name}} for name, address in themselves.items()]
    discovery = {"url": f"{layout.panel_url}/internal/sd/prometheus", "refresh_interval": "5s"}
    document = {
        "global": {"scrape_interval": "5s", "scrape_timeout": "4s", "evaluation_interval": "5s"},
        "rule_files": [str(ROOT / "monitoring" / "rules" / "*.yml")],
        "scrape_configs": [
            {"job_name": "mxfleet", "http_sd_configs": [discovery]},
            {"job_name": "parts", "static_configs": static},
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _write(path: Path, text: str) -> None:
    """Replace a file whole: nobody reads half of it."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(text)
    os.replace(draft, path)
