"""Whether the ports of a cluster are free, and who holds one that is not."""

import errno
import socket
from contextlib import suppress
from pathlib import Path

from control.local.layout import HOST

_LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp (include/net/tcp_states.h)."""


def busy(port: int) -> str:
    """Who holds the TCP port, in words; "" when it is free. Raises OSError when it cannot be had for another reason."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return holder(port) or "a process that we may not see"
    return ""


def holder(port: int) -> str:
    """The process that listens on the port, as "pid 17 (nginx: master process)"; "" when it cannot be told."""
    inodes = _listening(port)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # ended meanwhile, or another user's
                if any(link.readlink().name in inodes for link in (entry / "fd").iterdir()):
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    return f"pid {entry.name} ({command[:100]})"
    return ""


def _listening(port: int) -> set[str]:
    """Sockets that listen on the port, as /proc names them: "socket:[1234]"."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(FileNotFoundError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found
