"""The peers of the SMTP bench as private instances below a directory: Postfix (two ways) and Haraka.

Each runs the nearest equal of what our node does, with its own configuration, queue and ports on loopback:

    postfix        takes mail into its queue (fsync), then relays it; recipients from a table
    postfix-proxy  the same smtpd passing each mail through before the queue: no policy, nothing stored
    haraka         list, HELO and header plugins (those that ask DNS are left out), recipients' domains from a
                   list; `smtp_forward`, or where mail is kept its file queue, which does not fsync
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.node import wait_for
from tests.certificates import self_signed
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
HARAKA = ROOT / "var" / "peers" / "node_modules" / "Haraka"
"""Where `npm install --prefix var/peers Haraka@3.3.4` puts it; HARAKA=directory names another place."""
POSTFIX_SERVICES = """\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""
HARAKA_PLUGINS = ("access", "helo.checks", "tls", "rcpt_to.in_host_list", "headers")


@dataclass(frozen=True)
class Peer:
    """A server that runs: its port, and the processes whose time counts."""

    port: int
    pids: Sequence[int]
    queues: Sequence[Path] = field(default=())
    """Directories that are empty once it has relayed all it took."""

    def is_done(self) -> bool:
        """Whether nothing waits in its queue."""
        return not any(file.is_file() for queue in self.queues for file in queue.rglob("*"))


@contextlib.contextmanager
def postfix(directory: Path, sink: int, users: Sequence[str], domains: Sequence[str]) -> Iterator[tuple[Peer, Peer]]:
    """(queue and relay, before-queue proxy) of one private instance; mail for `keep.bench` ends in its queue."""
    master = shutil.which("postfix", path=f"{os.environ['PATH']}:/usr/sbin")
    if master is None or os.geteuid() != 0:
        raise LookupError("postfix (Debian's package, run as root)")
    config, queue, data = (directory / name for name in ("etc", "queue", "data"))
    for each in (config, queue, data):
        each.mkdir(parents=True)
    shutil.chown(data, "postfix")
    directory.chmod(0o755)
    cert, key = self_signed(config, "postfix.bench")
    (config / "recipients").write_text("".join(f"{user}@{name} x\n" for name in domains for user in users))
    ports = free_port(), free_port()
    main = {
        "compatibility_level": "3.6",
        "queue_directory": queue,
        "data_directory": data,
        "mail_owner": "postfix",
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "myhostname": "postfix.bench",
        "mydestination": "",
        "relay_domains": " ".join(domains),
        "relay_recipient_maps": f"texthash:{config / 'recipients'}",
        "relay_transport": f"relay:[127.0.0.1]:{sink}",
        "transport_maps": "inline:{keep.bench=discard:}",
        "smtpd_relay_restrictions": "reject_unauth_destination",
        "smtpd_peername_lookup": "no",
        "disable_dns_lookups": "yes",
        "smtp_host_lookup": "native",
        "maillog_file": directory / "log",
        "maillog_file_prefixes": directory,
        "smtpd_tls_cert_file": cert,
        "smtpd_tls_key_file": key,
        "smtpd_tls_security_level": "may",
        "smtp_tls_security_level": "none",
        "message_size_limit": "50000000",
        "smtpd_client_connection_count_limit": "0",
        "alias_maps": "",
        "alias_database": "",
        "smtpd_error_sleep_time": "0",
        "smtpd_hard_error_limit": "100000",
        "smtpd_soft_error_limit": "100000",
    }
    (config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main.items()))
    proxy = f"-o smtpd_proxy_filter=127.0.0.1:{sink} -o relay_recipient_maps= -o smtpd_authorized_xforward_hosts="
    services = [
        f"127.0.0.1:{ports[0]} inet n - n - 100 smtpd",
        f"127.0.0.1:{ports[1]} inet n - n - 100 smtpd {proxy}",
    ]
    (config / "master.cf").write_text("\n".join([*services, POSTFIX_SERVICES]))
    subprocess.run([master, "-c", str(config), "start"], check=True, capture_output=True)
    pid = int((queue / "pid" / "master.pid").read_text())
    try:
        for port in ports:
            wait_for(lambda port=port: _listens(port), "Postfix to listen")  # type: ignore[misc]
        waiting = [queue / name for name in ("incoming", "active", "deferred")]
        yield Peer(ports[0], [pid], waiting), Peer(ports[1], [pid])
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), "Postfix to end")


@contextlib.contextmanager
def haraka(directory: Path, sink: int, domains: Sequence[str], *, keeping: bool = False) -> Iterator[Peer]:
    """Haraka with one process: relaying in the session, or keeping every mail in a file."""
    home, node = Path(os.environ.get("HARAKA", HARAKA)), shutil.which("node")
    if node is None or not (home / "haraka.js").exists():
        raise LookupError("Haraka (npm install --prefix var/peers Haraka@3.3.4)")
    config = directory / "config"
    shutil.copytree(home / "config", config)
    (directory / "queue").mkdir()
    cert, key = self_signed(config, "haraka.bench")
    port = free_port()
    queue = "queue/test" if keeping else "queue/smtp_forward"
    files = {
        "smtp.ini": f"listen=127.0.0.1:{port}\nnodes=0\ndaemonize=false\n",
        "plugins": "\n".join([*HARAKA_PLUGINS, queue, ""]),
        "host_list": "\n".join(domains),
        "me": "haraka.bench",
        "smtp_forward.ini": f"host=127.0.0.1\nport={sink}\n",
        "log.ini": "level=notice\n",
        "tls.ini": f"key={key.name}\ncert={cert.name}\n",
        "helo.checks.ini": "[check]\nvalid_hostname=false\nmatch_re=false\nrdns_match=false\nforward_dns=false\n",
        "headers.ini": "[check]\nfrom_match=false\ndelivered_to=false\nfrom_phish=false\n",
    }
    for name, text in files.items():
        (config / name).write_text(text)
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [node, str(home / "haraka.js")],
            cwd=directory,
            env={**os.environ, "HARAKA": str(directory), "TMPDIR": str(directory / "queue")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: _listens(port), f"Haraka to listen (see {directory / 'log'})")
        yield Peer(port, [process.pid])
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def smtp_sink(**options: Any) -> Iterator[int]:
    """Debian's smtp-sink on a port of its own, the next hop of everybody; its time counts for nobody."""
    program = shutil.which("smtp-sink", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise LookupError("smtp-sink (Debian's postfix package)")
    port = free_port()
    user = ["-u", "postfix"] if os.geteuid() == 0 else []
    process = subprocess.Popen([program, *user, "-h", "sink.bench", f"127.0.0.1:{port}", "1000"])
    try:
        wait_for(lambda: _listens(port), "smtp-sink to listen")
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
