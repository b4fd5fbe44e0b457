"""The spool process of a node: what must be kept is on two hosts before its workers answer."""

import asyncio
import signal

import uvloop

from monitoring import log
from monitoring.exporter import Exporter
from syncd import config
from syncd.spool.node import Spool

_log = log.get(__name__)


def run(node: config.Node, *, metrics_port: int, number: int) -> None:
    """Secure, ship and hold until SIGTERM or SIGINT; what is under way then is answered first."""
    uvloop.run(_run(node, metrics_port))


async def _run(node: config.Node, metrics_port: int) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    spool = Spool(node)
    exporter = Exporter(node.metrics_host, metrics_port, spool.ready)
    _log.info("spooling", socket=node.spool.socket, receiver=f"{node.spool.receiver_host}:{node.spool.receiver_port}")
    try:
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(each) for each in (spool.run(), exporter.beat())]
            await stop.wait()
            for task in beside:
                task.cancel()
    finally:
        exporter.close()
