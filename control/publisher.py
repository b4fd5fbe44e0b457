"""The publisher's process on the control host: carries committed settings into etcd."""

import asyncio
import signal
import socket

import uvloop

from monitoring import log
from monitoring.exporter import Exporter
from syncd.config import Control
from syncd.publish import Publisher

_log = log.get(__name__)


def run(settings: Control, *, metrics_port: int) -> None:
    """Publish until SIGTERM or SIGINT."""
    uvloop.run(_run(settings, metrics_port))


async def _run(settings: Control, metrics_port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    identity = f"{socket.gethostname()}:{settings.panel_port}"
    publisher = Publisher(settings.database, settings.etcd, identity)
    exporter = Exporter(settings.metrics_host, metrics_port, lambda: publisher.trouble)
    _log.info("publishing", etcd=settings.etcd.endpoints, identity=identity)
    try:
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(publisher.run()), tasks.create_task(exporter.beat())]
            await stop.wait()
            for task in beside:
                task.cancel()
    finally:
        exporter.close()
