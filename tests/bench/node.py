"""Our side of the SMTP bench: real workers of a node with 20,000 domains in their store, and what they need beside.

memcached, a name server (Knot) and, where mail is kept, the spool processes of two nodes and a receiver.
"""

import contextlib
import signal
import socket
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control.local import resolver
from control.local.configs import toml
from control.local.layout import Layout
from mx.filters import decode
from syncd import keys, shards
from syncd.lastgood import DIRECTORY, Writer
from syncd.layers import AccountLayer, DomainLayer, NextHop, Recipient, SystemLayer, canonical
from syncd.published import Tally, element, sealed
from syncd.status import Status, boot_id, monotonic
from tests.certificates import self_signed
from tests.cluster import free_port_base
from tests.servers import Memcached, Service, free_port, program
from tests.syncd.running import Program
from tests.syncd.spool.parts import Installation, quarantine, spool, tell_members

POLICY = Path(__file__).with_name("policy.toml")
SENDER_ZONE = '@ 3600 SOA ns hostmaster 1 60 60 60 60\n@ 3600 NS ns\n@ 3600 TXT "v=spf1 ip4:127.0.0.0/8 -all"\n'
LIST_ZONE = "@ 3600 SOA ns hostmaster 1 60 60 60 3600\n@ 3600 NS ns\n"


@dataclass(frozen=True)
class Running:
    """A node that takes mail."""

    port: int
    pids: tuple[int, ...]
    """The node's processes; their children belong to them."""
    holders: tuple[int, ...] = ()
    """The processes that hold the second copy."""


def policy() -> dict[str, Any]:
    """The committed policy file."""
    return tomllib.loads(POLICY.read_text())


def store(directory: Path, next_hop: NextHop, *, with_policy: bool) -> None:
    """Write the last-known-good store of a node as follow does: system, account, domains, recipients."""
    found = policy()
    settings = found["settings"] if with_policy else {}
    decode(settings | {"content": found["kept"]["content"]})  # a policy that cannot be read is said here, not at RCPT
    listed, bodies = shards.build({name: canonical(Recipient()) for name in found["recipients"]})
    values: dict[str, bytes] = {
        keys.SYSTEM: sealed(canonical(SystemLayer(settings))),
        keys.account("bench"): sealed(canonical(AccountLayer("bench", {}))),
    }
    values |= {keys.shard(name): body for name, body in bodies.items()}
    names = [f"d{number}.bench" for number in range(found["domains"])]
    layers = [DomainLayer(name, "bench", (next_hop,), recipients=listed) for name in names]
    layers.append(DomainLayer("keep.bench", "bench", (next_hop,), settings=found["kept"], recipients=listed))
    values |= {keys.domain(layer.domain): sealed(canonical(layer)) for layer in layers}
    _write(directory, values)


def _write(directory: Path, values: Mapping[str, bytes]) -> None:
    with Writer(directory / DIRECTORY) as writer, writer.change() as change:
        tally = Tally()
        for key, value in values.items():
            change.put(key, value, element(key, value))
            tally.change(None, element(key, value))
        change.status = Status(
            generation=1,
            revision=1,
            digest=tally.digest,
            published=tally.digest,
            count=tally.count,
            state="live",
            complete=True,
            heard_at=monotonic(),
            boot=boot_id(),
        )


class Knot(Service):
    """The name server that knows the sender's SPF record and a DNS list that lists nobody."""

    name = "knotd"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.layout = Layout(directory, free_port_base())
        self._server = program("knotd")
        self.layout.run.mkdir(exist_ok=True)
        (directory / "zones").mkdir()
        (directory / "zones" / "sender.bench.zone").write_text(SENDER_ZONE)
        (directory / "zones" / "list.bench.zone").write_text(LIST_ZONE)
        resolver.choose_upstream(self.layout, "")

    def command(self) -> list[str]:
        return [self._server, "-c", str(resolver.write(self.layout))]

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.layout.port("resolver"))) == 0


@contextlib.contextmanager
def node(
    directory: Path, next_hop: NextHop, *, workers: int = 1, with_policy: bool = True, keeping: bool = False
) -> Iterator[Running]:
    """A node of so many workers; with `keeping`, its spool process, a peer's and a receiver run too."""
    directory.mkdir()
    installation, knot_dir, memcached_dir = Installation(directory), directory / "knot", directory / "memcached"
    knot_dir.mkdir()
    memcached_dir.mkdir()
    knot, memcached = Knot(knot_dir), Memcached(memcached_dir)
    receiver = quarantine(installation)
    spools = [spool(installation, name, receiver.port, secure_timeout_s=5.0) for name in ("mx1", "mx2")]
    home, port = spools[0].directory, free_port()
    store(home, next_hop, with_policy=with_policy)
    file = _configure(home, spools[0].command, port, memcached.socket, knot.layout)
    tell_members(spools)
    ours = [_worker(home, file, number) for number in range(workers)]
    programs = [*([receiver, *reversed(spools)] if keeping else []), *ours]
    try:
        knot.start()
        memcached.start()
        for each in programs:
            each.start()
        wait_for(lambda: all(b"serving" in worker.log.read_bytes() for worker in ours), "the workers to serve")
        if keeping:
            wait_for(spools[0].is_ready, "the spool to be ready")
        holders = (_pid(receiver), _pid(spools[1])) if keeping else ()
        yield Running(port, (memcached.pid, *map(_pid, [*spools[:keeping], *ours])), holders)
    finally:
        for each in reversed(programs):
            each.kill(signal.SIGTERM)
        memcached.stop()
        knot.stop()


def _configure(home: Path, spool_command: Any, port: int, memcached: str, dns: Layout) -> Path:
    """The worker's configuration: the spool's, with a port, a certificate, a cache and a name server."""
    document = tomllib.loads(Path(spool_command[spool_command.index("--config") + 1]).read_text())
    cert, key = self_signed(home, "mx1.bench")
    limits = {"new_per_s_per_network": 100_000, "new_per_s": 100_000}
    smtp = {"host": "127.0.0.1", "port": port, "hostname": "mx1.bench", "cert": str(cert), "key": str(key)}
    document |= {"smtp": smtp | {"limits": limits}, "memcached_socket": memcached}
    document["resolver"] = [dns.address("resolver")]
    file = home / "worker.toml"
    file.write_text(toml(document))
    return file


def _worker(home: Path, file: Path, number: int) -> Program:
    arguments = ["--config", str(file), "--metrics-port", str(free_port()), "--number", str(number + 1)]
    return Program([sys.executable, "-m", "mx", "worker", *arguments], home / f"worker{number}.log")


def _pid(running: Program) -> int:
    assert running.process
    return running.process.pid


def wait_for(true: Callable[[], object], what: str, within_s: float = 60.0) -> None:
    """Wait for a condition. Raises TimeoutError."""
    until = time.monotonic() + within_s
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {within_s:.0f} s for {what}")
        time.sleep(0.05)
