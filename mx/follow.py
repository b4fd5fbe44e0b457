"""The follow process of a node: keeps the last-known-good settings and reports them, with the node's own declarations.

A value counts as read only if the very declarations that will judge can read it.
"""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import uvloop

from monitoring import log
from monitoring.exporter import Exporter
from monitoring.metrics import syncd as metrics
from mx.filters import SettingsError
from mx.filters import decode as decode_sections
from syncd import config, keys
from syncd.follow import Follower
from syncd.lastgood import DIRECTORY, Writer
from syncd.layers import AccountLayer, DomainLayer, Member, SystemLayer
from syncd.memcache import Memcache
from syncd.published import Unreadable
from syncd.warm import Warmer

_log = log.get(__name__)


def run(node: config.Node, *, metrics_port: int, number: int) -> None:
    """Follow until SIGTERM or SIGINT."""
    uvloop.run(_run(node, metrics_port))


async def _run(node: config.Node, metrics_port: int) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    with Writer(Path(node.state_dir) / DIRECTORY) as store:
        if store.was_torn:
            _log.error("store_set_aside", why=store.was_torn)
        follower = Follower(node.name, node.etcd, store, readable, Warmer(Memcache(node.memcached_socket)))
        metrics.follow_heard_seconds.set_function(lambda: follower.status.age_s())
        exporter = Exporter(node.metrics_host, metrics_port, _ready(follower))
        _log.info("following", revision=store.status.revision, state=store.status.state, etcd=node.etcd.endpoints)
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(each) for each in (follower.run(), follower.check_readers(), exporter.beat())
                ]
                await stop.wait()
                for task in beside:
                    task.cancel()
        finally:
            exporter.close()


def readable(key: str, canonical: bytes) -> None:
    """Raises Unreadable when this node could not judge by a value. A shard is looked up, never decoded."""
    kind = next((kind for prefix, kind in _KINDS.items() if key.startswith(prefix)), None)
    if kind is None:
        return
    try:
        layer = msgspec.json.decode(canonical, type=kind)
        if not isinstance(layer, Member):
            decode_sections(layer.settings)
    except (msgspec.MsgspecError, SettingsError) as error:
        raise Unreadable(str(error)) from error


_KINDS: dict[str, type[SystemLayer | AccountLayer | DomainLayer | Member]] = {
    keys.SYSTEM: SystemLayer,
    keys.ACCOUNTS: AccountLayer,
    keys.DOMAINS: DomainLayer,
    keys.MEMBERS: Member,
}


def _ready(follower: Follower) -> Callable[[], str]:
    def ready() -> str:
        status = follower.status
        return "" if status.complete else f"no settings yet: {status.state}; is etcd up, and a publisher?"

    return ready
