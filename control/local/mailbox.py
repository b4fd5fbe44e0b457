"""A stand-in for the customer's mail server: takes every mail and puts it into the maildir VAR/mailbox.

It answers 250 after the mail's file and its directory are synced, so that what it took cannot be lost.
There is no STARTTLS and no list of recipients: this plays the outside world, and is no part of the product.
Run by supervisord as `mailbox`.
"""

import asyncio
import os
import secrets
import socket
import time
from pathlib import Path

import uvloop
from aiosmtpd.smtp import SMTP, Envelope, Session

from control.local import arguments
from control.local.layout import HOST, Layout
from monitoring import log

MAX_BYTES = 100 * 1024 * 1024
BACKLOG = 1024

_log = log.get(__name__)


def main() -> None:
    """Serve until ended."""
    layout = arguments.layout(__doc__)
    log.configure("mailbox")
    uvloop.run(serve(layout))


async def serve(layout: Layout) -> None:
    """Take mail on the mailbox's port until cancelled."""
    maildir = Maildir(layout.var / "mailbox")

    def session() -> SMTP:
        return _Server(
            maildir,
            data_size_limit=MAX_BYTES,
            enable_SMTPUTF8=True,
            hostname="mailbox.example.test",
            ident="stand-in for a customer's mail server",
            decode_data=False,
            timeout=600,
        )

    server = await asyncio.get_running_loop().create_server(
        session, HOST, layout.port("mailbox"), backlog=BACKLOG, reuse_address=True
    )
    async with server:
        await server.serve_forever()


class _Server(SMTP):
    line_length_limit = 2**20  # aiosmtpd's 1,001 refuses real mail; most servers take long lines


class Maildir:
    """aiosmtpd's handler: one file a mail in `new/`, by the rules of maildir(5)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for name in ("tmp", "new", "cur"):
            (directory / name).mkdir(parents=True, exist_ok=True)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep the mail, its envelope on top, and say so."""
        head = f"Return-Path: <{envelope.mail_from or ''}>\r\n"
        head += "".join(f"Delivered-To: {recipient}\r\n" for recipient in envelope.rcpt_tos)
        content = envelope.original_content or b""
        try:
            name = await asyncio.to_thread(self.keep, head.encode() + content)
        except OSError as error:
            _log.error("mail not kept", error=str(error))
            return "452 4.3.1 cannot keep it now"
        return f"250 2.0.0 kept as {name}"

    def keep(self, mail: bytes) -> str:
        """Write one mail durably and return its name. Raises OSError."""
        name = f"{time.time_ns()}.{secrets.token_hex(6)}.{socket.gethostname()}"
        draft = self._directory / "tmp" / name
        with draft.open("xb") as file:
            file.write(mail)
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, self._directory / "new" / name)
        _sync(self._directory / "new")
        return name


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
