"""The listening socket of a worker, and the graceful end of its sessions."""

import asyncio
import resource
import socket

from monitoring import log
from mx.session import Reception
from mx.stream import Front

BACKLOG = 4096
DRAIN_S = 20.0
"""How long a mail under way may take to reach its dot after SIGTERM; then its client gets 421."""
FINISH_S = 30.0
"""How long mails that passed their dot may take after that; what is not done then, the client sends again."""
TICK_S = 0.1

_log = log.get(__name__)


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
    for session in list(front.sessions):
        session.shut_down(amid_mail=amid_mail)
