"""Serves mail on a node's port: the listening socket, what runs beside it, the graceful end of its sessions."""

import asyncio
import gc
import resource
import socket

from monitoring import log
from monitoring.exporter import Exporter
from mx.certificate import Certificate
from mx.front import Front
from mx.limits import Limits
from mx.proxy import is_listed
from mx.server import factory
from mx.services import Services
from mx.session import Reception

BACKLOG = 4096
DRAIN_S = 4.0
"""How long a mail under way may take to reach its dot after SIGTERM; then its client gets 421."""
FINISH_S = 9.0
"""How long mails that passed their dot may take after that; what is not done then, the client sends again.

Both together stay below the 15 s after which a supervisor kills."""
TICK_S = 0.1

_log = log.get(__name__)


async def serve(services: Services, *, metrics_port: int, number: int, stop: asyncio.Event) -> None:
    """Receive mail until `stop` is set, then drain.

    Raises OSError when the port cannot be had, ValueError when `smtp.proxies` names what is no network.
    """
    smtp = services.node.smtp
    is_listed(smtp.proxies, "127.0.0.1")  # a typing error is said here, not at each connection
    certificate = Certificate(smtp.cert, smtp.key)
    reception = Reception(services, Limits(smtp.limits))
    front = Front(smtp, certificate.context, services.node.state_dir or None)
    sock = bind(smtp.host, smtp.port)
    server = await asyncio.get_running_loop().create_server(factory(reception, front), sock=sock, backlog=BACKLOG)
    exporter = Exporter(services.node.metrics_host, metrics_port, lambda: "shutting down" if stop.is_set() else "")
    gc.freeze()  # what was imported is not garbage; the collector need not look at it again
    _log.info("serving", number=number, host=smtp.host, port=sock.getsockname()[1], metrics_port=exporter.port)
    try:
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(exporter.beat()), group.create_task(certificate.follow())]
            await stop.wait()
            _log.info("draining", sessions=len(front.sessions))
            await drain(server, front, reception)
            for task in beside:
                task.cancel()
    finally:
        exporter.close()
    _log.info("ended", number=number)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket that shares its port with the node's other workers (SO_REUSEPORT)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    sock.setblocking(False)
    return sock


def raise_file_limit() -> int:
    """Allow as many open files as the system lets us; each connection is one. Returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def drain(server: asyncio.Server, front: Front, reception: Reception, *, drain_s: float = DRAIN_S) -> None:
    """Stop accepting, let mails under way end, send everybody else away; bounded."""
    server.close()
    loop = asyncio.get_running_loop()
    until = loop.time() + drain_s
    while front.sessions and loop.time() < until:
        _send_away(front, amid_mail=False)
        await asyncio.sleep(TICK_S)
    _send_away(front, amid_mail=True)
    try:
        async with asyncio.timeout(FINISH_S):
            await reception.drained()
    except TimeoutError:
        _log.error("drain_incomplete", sessions=len(front.sessions))


def _send_away(front: Front, *, amid_mail: bool) -> None:
    for session in front.sessions:
        session.shut_down(amid_mail=amid_mail)
