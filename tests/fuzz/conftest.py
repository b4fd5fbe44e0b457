"""A worker runs on uvloop, so its tests do too: the two loops differ in what they do at the end of a connection."""

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of the product."""
    return {"uvloop": uvloop.new_event_loop}
