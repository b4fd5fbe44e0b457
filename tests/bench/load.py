"""The clients of the SMTP bench: Debian's smtp-source, and our own where it cannot do what is asked (STARTTLS)."""

import os
import shutil
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

SESSIONS = 10
"""Sessions at a time, for every server alike."""


@dataclass(frozen=True)
class Load:
    """What is sent: bytes of a message, whether a connection serves one mail or many, recipients, TLS."""

    size: int = 2048
    many: bool = False
    recipients: int = 1
    to: str = "user@d7.bench"
    tls: bool = False
    refused: bool = False
    """Whether the server's refusal is what is measured."""


def send(port: int, load: Load, mails: int) -> None:
    """Send so many mails. Raises LookupError without smtp-source, RuntimeError when the server does otherwise."""
    if load.tls:
        with ThreadPoolExecutor(SESSIONS) as pool:
            list(pool.map(lambda _: _over_tls(port, load), range(mails)))
        return
    program = shutil.which("smtp-source", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise LookupError("smtp-source (Debian's postfix package)")
    options = ["-s", str(SESSIONS), "-m", str(mails), "-l", str(load.size), "-r", str(load.recipients)]
    options += ["-d"] if load.many else []
    options += ["-A"] if load.refused else []
    names = ["-M", "client.bench", "-f", "ann@sender.bench", "-t", load.to]
    ended = subprocess.run(
        [program, *options, *names, f"127.0.0.1:{port}"], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"smtp-source to {port}: {ended.stderr.strip()}")


def _over_tls(port: int, load: Load) -> None:
    """One mail on a connection of its own, after STARTTLS; no session is resumed."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    line = b"X" * 78 + b"\r\n"
    head = b"From: <ann@sender.bench>\r\nDate: Wed, 25 Nov 2026 03:40:11 +0000\r\nMessage-Id: <1@bench>\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
        _say(plain, b"", b"220")
        _say(plain, b"EHLO client.bench\r\n", b"250")
        _say(plain, b"STARTTLS\r\n", b"220")
        with context.wrap_socket(plain) as secured:
            _say(secured, b"EHLO client.bench\r\n", b"250")
            _say(secured, b"MAIL FROM:<ann@sender.bench>\r\n", b"250")
            _say(secured, b"RCPT TO:<%s>\r\n" % load.to.encode(), b"250")
            _say(secured, b"DATA\r\n", b"354")
            _say(secured, head + line * (load.size // len(line)) + b".\r\n", b"250")
            _say(secured, b"QUIT\r\n", b"221")


def _say(sock: socket.socket, data: bytes, code: bytes) -> None:
    sock.sendall(data)
    reply = b""
    while not (reply.endswith(b"\r\n") and reply.rstrip().split(b"\n")[-1][3:4] == b" "):
        piece = sock.recv(65536)
        if not piece:
            break
        reply += piece
    if not reply.startswith(code):
        raise RuntimeError(f"{data[:40]!r} was answered {reply[:100]!r}")
