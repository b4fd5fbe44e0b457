"""An MX worker: one process that receives mail on the node's port, beside its sisters on the same port."""

import asyncio
import signal
from contextlib import AsyncExitStack

import uvloop

from monitoring.metrics import mx as metrics
from mx import listener
from mx.checks.dns import DnsResolver
from mx.ledger import Ledger
from mx.parser import Parser
from mx.policy import Policies
from mx.services import Services
from syncd import config
from syncd.nexthop import How, Pool
from syncd.spool.client import SpoolClient


def run(node: config.Node, *, metrics_port: int, number: int) -> None:
    """Serve until SIGTERM or SIGINT, then end gracefully within a bound."""
    listener.raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(node, metrics_port, number))


async def _work(node: config.Node, metrics_port: int, number: int) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    async with AsyncExitStack() as stack:
        services = await neighbours(node, stack)
        await listener.serve(services, metrics_port=metrics_port, number=number, stop=stop)


async def neighbours(node: config.Node, stack: AsyncExitStack) -> Services:
    """The real neighbours of a worker; the stack closes them."""
    spool = await stack.enter_async_context(SpoolClient(node.spool.socket, timeout_s=node.spool.secure_timeout_s))
    parser = await stack.enter_async_context(Parser())
    policies = stack.enter_context(Policies(node))
    resolver = DnsResolver(node.resolver)
    next_hops = await stack.enter_async_context(Pool(count=_count))
    return Services(node, policies, spool, parser, resolver, Ledger(spool), next_hops=next_hops)


def _count(how: How) -> None:
    metrics.relay_connections.labels(how).inc()
