"""The panel's process: the API and the pages on one port, the nodes' receipts kept beside them.

It starts and answers whatever is away: without PostgreSQL every answer says so (503), without etcd changes are stored
and the nodes are shown as awaited with the age of what was last heard.
"""

import asyncio
import signal

import uvloop

from control import bulk
from control.app import Services, create_app
from control.quarantine import packs, viewing
from control.receipts import Receipts
from control.receipts_feed import follow
from control.serving import serve
from control.store import pool as pools
from monitoring import log
from monitoring.exporter import Exporter
from syncd.config import Control

LOG = log.get(__name__)


def run(settings: Control, *, metrics_port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    uvloop.run(_run(settings, metrics_port))


async def _run(settings: Control, metrics_port: int) -> None:
    exporter = Exporter(settings.metrics_host, metrics_port)
    pool = await pools.create(settings.database)
    services = Services(settings, pool, Receipts(), packs.open(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, services.stopping.set)
    try:
        await _serve(services, exporter)
    finally:
        pool.terminate()
        exporter.close()


async def _serve(services: Services, exporter: Exporter) -> None:
    settings = services.settings
    app = create_app(settings, services=services)
    async with asyncio.TaskGroup() as tasks:
        parts = (
            exporter.beat(),
            follow(settings.etcd, services.receipts),
            bulk.run(services.pool, services.receipts),
        )
        beside = [tasks.create_task(each) for each in parts]
        LOG.info("listening", host=settings.panel_host, port=settings.panel_port)
        async with viewing.kept_ready():
            await serve(app, settings.panel_host, settings.panel_port, services.stopping)
        for task in beside:
            task.cancel()
