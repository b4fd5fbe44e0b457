"""The programs of a cluster on one machine, and the supervisord configuration that runs them.

supervisord (PyPI `supervisor`) starts and restarts them. `startsecs=0` makes it see every exit as the end of a
running program, which `autorestart=true` starts again at its next tick (a second): no growing back-off, no limit
of tries. Its back-off and its FATAL state are left for the one case where no process can be made at all.
Programs write their logs themselves: a busy supervisor would hold up what writes into its pipe, a dead one end it.
Wrappers exec, so that the pid supervisord knows is the program's own.
"""

import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from control.local import programs
from control.local.layout import HOST, NODE_PROCESSES, ROOT, WORKERS, Layout, NodePlace

SUPERVISOR_LOG = "10MB"
NEVER_GIVE_UP = 1_000_000_000
MEMCACHED_MB = 64


@dataclass(frozen=True)
class Part:
    """One program: its name is the one in `demo.json`."""

    name: str
    command: tuple[str, ...]
    stop_signal: str = "TERM"
    stop_wait_s: int = 10


def foundations(layout: Layout) -> list[Part]:
    """What needs nobody: database, etcd, name server, and the mailbox server that plays the customer's."""
    return [
        Part("postgres", _python("control.local.postgres", layout), stop_signal="INT", stop_wait_s=30),
        Part("etcd", _etcd(layout), stop_wait_s=15),
        Part("resolver", _resolver(layout)),
        Part("caretaker", _python("control.local.caretaker", layout)),
        Part("mailbox", _python("control.local.mailbox", layout)),
    ]


def control_plane(layout: Layout) -> list[Part]:
    """Our own processes on the control host, and Prometheus."""
    ours = [
        Part(name, _ours("control", name, str(layout.control_config), layout.port(f"{name}-metrics")), stop_wait_s=15)
        for name in ("publisher", "receiver", "panel", "janitor")
    ]
    return [*ours, Part("prometheus", _prometheus(layout))]


def node(place: NodePlace) -> list[Part]:
    """The processes of one node."""
    config = str(place.config)
    memcached = ["-s", str(place.socket("memcached")), "-a", "0700", "-m", str(MEMCACHED_MB), "-U", "0", "-I", "1m"]
    cache_user = programs.user_for("memcache")
    if cache_user:  # it becomes that user itself, once its log is open
        memcached += ["-u", cache_user.name]
    parts = [Part(f"{place.name}.memcached", (programs.find("memcached"), *memcached))]
    for process in ("spool", "follow"):
        command = _ours("mx", process, config, place.port(f"{process}-metrics"))
        parts.append(Part(f"{place.name}.{process}", command, stop_wait_s=15))
    for number in range(1, WORKERS + 1):
        command = _ours("mx", "worker", config, place.port(f"worker{number}-metrics"))
        parts.append(Part(f"{place.name}.worker{number}", (*command, "--number", str(number)), stop_wait_s=15))
    return parts


def supervisor_conf(layout: Layout) -> str:
    """supervisord's main file; the program groups are in files of their own beside it."""
    socket = layout.run / "supervisor.sock"
    directory = layout.var / "supervisor"
    roster = _python("control.local.roster", layout)
    events = "PROCESS_STATE_STARTING,PROCESS_STATE_RUNNING,PROCESS_GROUP_ADDED,PROCESS_GROUP_REMOVED"
    return "\n".join(
        [
            "[unix_http_server]",
            f"file = {socket}",
            "chmod = 0700",
            "[supervisord]",
            f"logfile = {layout.log('supervisor')}",
            f"logfile_maxbytes = {SUPERVISOR_LOG}",
            f"pidfile = {directory / 'supervisord.pid'}",
            f"childlogdir = {layout.var / 'log'}",
            f"directory = {ROOT}",
            "umask = 077",
            *(["user = root"] if programs.user_for("nobody") else []),
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
            "[supervisorctl]",
            f"serverurl = unix://{socket}",
            "[eventlistener:roster]",
            f"command = {shlex.join(roster)}",
            f"events = {events}",
            "buffer_size = 1000",
            "stdout_logfile = NONE",
            f"stderr_logfile = {layout.log('roster')}",
            *_common(),
            "[include]",
            "files = conf.d/*.conf",
            "",
        ]
    )


def group_conf(layout: Layout, group: str, members: Iterable[Part]) -> str:
    """The file of one program group: a node, or the parts that exist once."""
    members = list(members)
    lines = [f"[group:{group}]", f"programs = {','.join(part.name for part in members)}"]
    for part in members:
        lines += [
            f"[program:{part.name}]",
            f"command = {shlex.join(_logged(layout, part))}",
            "stdout_logfile = NONE",
            "redirect_stderr = true",
            f"stopsignal = {part.stop_signal}",
            f"stopwaitsecs = {part.stop_wait_s}",
            # The program itself is asked to stop and ends its children; what must be killed is killed with them.
            "stopasgroup = false",
            "killasgroup = true",
            # The launcher starts parts in an order; what died is started again whatever this says.
            "autostart = false",
            *_common(),
        ]
    return "\n".join([*lines, ""])


def metric_urls(layout: Layout, nodes: Iterable[NodePlace]) -> dict[str, str]:
    """Where each of our processes is scraped, by its name in `demo.json`."""
    from_nodes = {
        f"{place.name}.{process}": place.metrics_url(process) for place in nodes for process in NODE_PROCESSES
    }
    return from_nodes | {
        name: f"http://{layout.address(name + '-metrics')}/metrics"
        for name in ("publisher", "receiver", "panel", "janitor")
    }


def _logged(layout: Layout, part: Part) -> tuple[str, ...]:
    """The command with its output appended to its log; `exec` leaves the pid the program's own."""
    return ("/bin/sh", "-c", 'exec "$@" >>"$0" 2>&1', str(layout.log(part.name)), *part.command)


def _common() -> list[str]:
    return [
        "autorestart = true",
        "startsecs = 0",
        f"startretries = {NEVER_GIVE_UP}",
        f'environment = PYTHONUNBUFFERED="1",PYTHONPATH="{ROOT}"',
    ]


def _python(module: str, layout: Layout) -> tuple[str, ...]:
    """A program of this package; the VAR on its command line also proves later that the process is ours."""
    return (sys.executable, "-m", module, "--var", str(layout.var), "--port-base", str(layout.base))


def _ours(package: str, process: str, config: str, metrics_port: int) -> tuple[str, ...]:
    return (sys.executable, "-m", package, process, "--config", config, "--metrics-port", str(metrics_port))


def _etcd(layout: Layout) -> tuple[str, ...]:
    client, peer = f"https://{layout.address('etcd')}", f"http://{layout.address('etcd-peer')}"
    tls = layout.var / "etcd" / "tls"
    return (
        programs.find("etcd"),
        "--name=etcd",
        f"--data-dir={layout.var / 'etcd' / 'data'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=etcd={peer}",
        f"--listen-metrics-urls=http://{layout.address('etcd-metrics')}",
        f"--trusted-ca-file={tls / 'ca.pem'}",
        f"--cert-file={tls / 'cert.pem'}",
        f"--key-file={tls / 'key.pem'}",
        "--client-cert-auth",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=1h",
        "--log-level=warn",
        "--logger=zap",
    )


def _resolver(layout: Layout) -> tuple[str, ...]:
    return (programs.find("knotd"), "-c", str(layout.var / "resolver" / "knot.conf"))


def _prometheus(layout: Layout) -> tuple[str, ...]:
    directory = layout.var / "prometheus"
    return (
        programs.find("prometheus"),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        "--storage.tsdb.retention.time=15d",
        "--storage.tsdb.retention.size=1GB",
        f"--web.listen-address={HOST}:{layout.port('prometheus')}",
        "--log.level=warn",
    )
