"""Where everything of a cluster on one machine lies: directories under VAR, ports from PORT_BASE on."""

import hashlib
import os
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from control.local import programs

PORTS = 100
"""A cluster uses the ports PORT_BASE … PORT_BASE+99."""
MAX_NODES = 8
WORKERS = 2
SOCKET_PATH_MAX = 100
"""A unix socket's path takes 107 bytes (unix(7), sun_path); Linux."""
ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

_OFFSETS = {
    "panel": 0,
    "postgres": 1,
    "etcd": 2,
    "etcd-peer": 3,
    "prometheus": 4,
    "resolver": 5,
    "mailbox": 6,
    "receiver": 7,
    "panel-metrics": 8,
    "publisher-metrics": 9,
    "receiver-metrics": 10,
    "janitor-metrics": 11,
    "etcd-metrics": 12,
}
_NODE_OFFSETS = {
    "smtp": 0,
    "spool": 1,
    "follow-metrics": 2,
    "spool-metrics": 3,
    "worker1-metrics": 4,
    "worker2-metrics": 5,
}

HOST = "127.0.0.1"
CONTROL_PROCESSES = ("panel", "publisher", "receiver", "janitor")
NODE_PROCESSES = ("worker1", "worker2", "follow", "spool")
"""Processes of a node that export metrics."""


class Unusable(Exception):
    """A cluster cannot be laid out or started like this; the text says why and what to do."""


@dataclass(frozen=True)
class NodePlace:
    """One node's directory and ports. Nodes are named mx1, mx2, …"""

    number: int
    base: int
    var: Path
    run: Path

    @property
    def name(self) -> str:
        """mx1, mx2, …"""
        return f"mx{self.number}"

    @property
    def directory(self) -> Path:
        """Everything of this node lies here, but for its unix sockets."""
        return self.var / "nodes" / self.name

    @property
    def config(self) -> Path:
        """Its configuration file; there as soon as the node has joined."""
        return self.directory / "node.toml"

    @property
    def hostname(self) -> str:
        """Its name in banners and certificates."""
        return f"{self.name}.mxfleet.test"

    def port(self, what: str) -> int:
        """A port of this node: "smtp", "spool", or "<process>-metrics"."""
        return self.base + 20 + (self.number - 1) * 10 + _NODE_OFFSETS[what]

    def socket(self, what: str) -> Path:
        """Path of one of its unix sockets: "spool", "memcached"."""
        return self.run / self.name / what

    def metrics_url(self, process: str) -> str:
        """Where one of its processes is scraped."""
        return f"http://{HOST}:{self.port(process + '-metrics')}/metrics"


@dataclass(frozen=True)
class Layout:
    """The cluster whose state lies in `var` (absolute) and whose ports begin at `base`."""

    var: Path
    base: int

    @classmethod
    def from_environment(cls) -> "Layout":
        """By VAR (default ./var) and PORT_BASE (default 12500). A VAR that holds a cluster keeps its ports.

        Raises Unusable for a PORT_BASE that is no number, does not fit, or differs from the one VAR was made with.
        """
        var = Path(os.environ.get("VAR") or ROOT / "var").absolute()
        wanted = os.environ.get("PORT_BASE") or ""
        if wanted and not wanted.isdigit():
            raise Unusable(f"PORT_BASE={wanted}: must be a number, e.g. PORT_BASE=12500")
        made = _made_with(var / "control.toml")
        if made and wanted and int(wanted) != made:
            raise Unusable(f"{var} was made with PORT_BASE={made}: use that, or another VAR, or `make clean` first")
        base = made or int(wanted or 12500)
        if not re.fullmatch(r"[\w./@+=,-]+", str(var)):
            raise Unusable(f"VAR={var}: use letters, digits and ./@+=,-_ only; it is written into many configurations")
        if not 1024 <= base <= 65535 - PORTS:
            raise Unusable(f"PORT_BASE={base}: must lie between 1024 and {65535 - PORTS}")
        return cls(var, base)

    def port(self, what: str) -> int:
        """A port of the control plane or of a part that exists once."""
        return self.base + _OFFSETS[what]

    def address(self, what: str) -> str:
        """The same as "host:port"."""
        return f"{HOST}:{self.port(what)}"

    @property
    def panel_url(self) -> str:
        """Where people and the API's clients go."""
        return f"http://{self.address('panel')}"

    @property
    def control_config(self) -> Path:
        """The control plane's configuration file."""
        return self.var / "control.toml"

    @property
    def demo_json(self) -> Path:
        """What tests and visitors need to know of the running cluster."""
        return self.var / "demo.json"

    @property
    def conf_d(self) -> Path:
        """One file a program group; supervisord includes them all."""
        return self.var / "supervisor" / "conf.d"

    def node(self, number: int) -> NodePlace:
        """The place of a node, there or not."""
        if not 1 <= number <= MAX_NODES:
            raise Unusable(f"node {number}: this machine takes nodes 1 to {MAX_NODES} in its {PORTS} ports")
        return NodePlace(number, self.base, self.var, self.run)

    def nodes(self) -> list[NodePlace]:
        """The nodes that have joined, by number."""
        places = [self.node(number) for number in range(1, MAX_NODES + 1)]
        return [place for place in places if place.config.exists()]

    def log(self, program: str) -> Path:
        """A program's log."""
        return self.var / "log" / f"{program}.log"

    @cached_property
    def run(self) -> Path:
        """Directory of the unix sockets: in VAR, or under /tmp where VAR's path is too long for sockets or closed."""
        inside = self.var / "run"
        others = [programs.user_for("memcache"), programs.user_for("postgres")]
        longest = inside / "mx1" / "memcached"
        if len(str(longest)) <= SOCKET_PATH_MAX and all(programs.can_reach(longest, user) for user in others):
            return inside
        return Path("/tmp") / f"mxf-{_short_hash(self.var)}"

    @cached_property
    def postgres_data(self) -> Path:
        """PostgreSQL's data: in VAR, or under /var/tmp where its user (we are root) could not reach VAR."""
        inside = self.var / "postgres"
        if programs.can_reach(inside / "data", programs.user_for("postgres")):
            return inside
        return Path("/var/tmp") / f"mxfleet-{_short_hash(self.var)}-postgres"


def own_directory(path: Path, *, user: programs.User | None = None, mode: int = 0o700) -> Path:
    """Make a directory that belongs to `user` (us without one). Raises Unusable when somebody else's lies there."""
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    owner = user.uid if user else os.geteuid()
    found = path.lstat()
    if path.is_symlink() or found.st_uid not in (owner, os.geteuid()):
        raise Unusable(f"{path} belongs to somebody else: remove it, or choose another VAR")
    if user and found.st_uid != owner:
        os.chown(path, user.uid, user.gid)
    path.chmod(mode)
    return path


def _short_hash(path: Path) -> str:
    return hashlib.blake2b(str(path).encode(), digest_size=5).hexdigest()


def _made_with(control_config: Path) -> int:
    """PORT_BASE of the cluster that VAR holds; 0 when it holds none."""
    try:
        return int(tomllib.loads(control_config.read_text())["panel_port"])
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except (KeyError, ValueError, OSError) as error:
        raise Unusable(f"{control_config}: cannot be read ({error}); `make clean` starts afresh") from error
