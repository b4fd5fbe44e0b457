"""The drill's faults of the network: packets that vanish, by nftables, in a network namespace of the drill's own.

What is dropped is chosen by the port of the server; both ends go on believing in the connection, as with a blackhole
route. `python -m tests.drill --netns` makes the namespace and runs drill and cluster inside it.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from control.local import layout
from tests.e2e.fleet import Fleet

INSIDE = "MXFLEET_DRILL_NETNS"
FLAP_S = 1.5
_CHAIN = "inet drill in"


def enter() -> None:
    """Make a namespace with a loopback of its own and become this very command inside it; returns at once when there.

    Needs root, `ip` and `nft`; exits with what is missing.
    """
    if os.environ.get(INSIDE):
        return
    lacking = [name for name in ("ip", "nft", "unshare") if not shutil.which(name)]
    if os.geteuid() or lacking:
        sys.exit(f"--netns needs root and {', '.join(lacking) or 'nothing more'}: apt-get install nftables iproute2")
    inside = 'ip link set lo up && exec "$@"'
    command = ["unshare", "--net", "sh", "-c", inside, "sh", sys.executable, "-m", "tests.drill", *sys.argv[1:]]
    os.execvpe("unshare", command, {**os.environ, INSIDE: "1"})


def is_ours() -> bool:
    """Whether packets may be dropped here."""
    return bool(os.environ.get(INSIDE))


@contextmanager
def cut(fleet: Fleet, *ports: int, answers_only: bool = False) -> Iterator[None]:
    """Packets to these servers vanish, and those from them too; `answers_only`: requests still arrive (one way)."""
    directions = ("sport",) if answers_only else ("sport", "dport")
    with _dropping([f"tcp {side} {{ {', '.join(map(str, ports))} }} drop" for side in directions]):
        yield


@contextmanager
def flapping(fleet: Fleet, *ports: int) -> Iterator[None]:
    """Cut and whole in turn."""
    over = threading.Event()

    def flap() -> None:
        while not over.is_set():
            with cut(fleet, *ports):
                over.wait(FLAP_S)
            over.wait(FLAP_S)

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def ports(fleet: Fleet) -> dict[str, tuple[int, ...]]:
    """The servers whose links can be cut, by what a customer would call the link."""
    base = int(str(fleet.demo["panel"]).rsplit(":", 1)[1])
    place = layout.Layout(fleet.path.parent, base)
    return {
        "node–node": tuple(node.port("spool") for node in place.nodes()),
        "node–quarantine": (place.port("receiver"),),
        "everybody–etcd": (place.port("etcd"),),
        "everybody–PostgreSQL": (place.port("postgres"),),
        "node–name server": (place.port("resolver"),),
        "node–customer": (place.port("mailbox"),),
    }


@contextmanager
def _dropping(rules: Iterable[str]) -> Iterator[None]:
    _nft("add table inet drill", f"add chain {_CHAIN} {{ type filter hook input priority 0; }}")
    _nft(*(f"add rule {_CHAIN} {rule}" for rule in rules))
    try:
        yield
    finally:
        _nft("delete table inet drill")


def _nft(*commands: str) -> None:
    subprocess.run(["nft", "-f", "-"], input="\n".join(commands), text=True, check=True, timeout=10)
