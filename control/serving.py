"""An application on a TCP port by hypercorn, until it is told to stop."""

import asyncio
import logging

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from quart import Quart

GRACE_S = 3.0
"""For requests under way at the end; event streams watch `stopping` and end at once."""
KEEP_ALIVE_S = 30.0
MAX_HEAD_BYTES = 32 * 1024
"""Of a request's line and header fields."""


async def serve(app: Quart, host: str, port: int, stopping: asyncio.Event) -> None:
    """Serve until `stopping` is set, then end within `GRACE_S`. Raises OSError when the port cannot be had."""
    config = Config()
    config.bind = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    config.graceful_timeout = GRACE_S
    config.shutdown_timeout = GRACE_S
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.h11_max_incomplete_size = MAX_HEAD_BYTES
    config.include_server_header = False
    config.errorlog = logging.getLogger("hypercorn.error")  # through our own handler, one JSON line an event

    async def stop() -> None:
        await stopping.wait()

    await hypercorn_serve(app, config, shutdown_trigger=stop)
