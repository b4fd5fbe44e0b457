"""The demo's name server: a private Knot DNS that plays the whole Internet.

It serves every `VAR/zones/*.zone`, each under the name of its file, and a root zone of its own, so that
every other name is NXDOMAIN at once. With DNS_UPSTREAM=host:port there is no root zone: what is not
served here is asked there.
"""

import os
import re
from pathlib import Path

from control.local.layout import HOST, Layout, Unusable

ROOT_ZONE = "@ 1 SOA mxfleet.test. hostmaster.mxfleet.test. 1 60 60 60 1\n@ 1 NS mxfleet.test.\n"
_ZONE_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.IGNORECASE)


def control_socket(layout: Layout) -> Path:
    """Where `knotc` reaches it."""
    return layout.run / "knot.sock"


def choose_upstream(layout: Layout, upstream: str) -> None:
    """Remember which server is asked for what is not served here; "" for none. Raises Unusable."""
    configuration(layout, [], upstream)
    layout.var.joinpath("resolver").mkdir(parents=True, exist_ok=True)
    upstream_file(layout).write_text(upstream)


def upstream_file(layout: Layout) -> Path:
    """The file that holds the choice; the watcher looks at it as it looks at the zones."""
    return layout.var / "resolver" / "upstream"


def write(layout: Layout) -> Path:
    """Write the server's configuration for the zone files of this moment."""
    directory = layout.var / "resolver"
    (directory / "root.zone").write_text(ROOT_ZONE)
    upstream = upstream_file(layout).read_text()
    path = directory / "knot.conf"
    draft = path.with_suffix(".new")
    draft.write_text(configuration(layout, zone_names(layout.var / "zones"), upstream))
    os.replace(draft, path)
    return path


def zone_names(zones: Path) -> list[str]:
    """Names of the zones with a file; a file whose name is no domain is left out."""
    return sorted(path.stem for path in zones.glob("*.zone") if _ZONE_NAME.fullmatch(path.stem))


def configuration(layout: Layout, zones: list[str], upstream: str) -> str:
    """knot.conf. Raises Unusable for an upstream that is not "host:port"."""
    directory = layout.var / "resolver"
    lines = [
        *_section("server", f'rundir: "{directory}"', f'pidfile: "{directory / "knot.pid"}"', *_SERVER),
        f"    listen: {HOST}@{layout.port('resolver')}",
        *_section("control", f'listen: "{control_socket(layout)}"'),
        *_section("database", f'storage: "{directory / "db"}"'),
        *_section("log", "- target: stdout", "  any: warning"),
    ]
    if upstream:
        host, _, port = upstream.rpartition(":")
        if not host or not port.isdigit():
            raise Unusable(f"DNS_UPSTREAM={upstream}: must be host:port, e.g. DNS_UPSTREAM=192.0.2.53:53")
        lines += _section("remote", "- id: upstream", f"  address: {host.strip('[]')}@{port}")
        lines += _section("mod-dnsproxy", "- id: world", "  remote: upstream", "  fallback: on")
    world = ["  global-module: mod-dnsproxy/world"] if upstream else []
    lines += _section("template", "- id: default", f'  storage: "{layout.var / "zones"}"', *_TEMPLATE, *world)
    lines += ["zone:"]
    if not upstream:
        lines += ["  - domain: .", f'    file: "{directory / "root.zone"}"']
    lines += [f'  - domain: {zone}\n    file: "{zone}.zone"' for zone in zones]
    return "\n".join([*lines, ""])


_SERVER = ("udp-workers: 1", "tcp-workers: 2", "background-workers: 1")
_TEMPLATE = ("  zonefile-sync: -1", "  zonefile-load: whole", "  journal-content: none", "  semantic-checks: off")
"""Whole, without a journal: a changed file is taken as it is, also when its serial did not rise."""


def _section(name: str, *lines: str) -> list[str]:
    return [f"{name}:", *(f"    {line}" for line in lines)]
