"""The stock class of aiosmtpd on a socket, so that tests can show what it does where ours does not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session


class Taking:
    """A handler that takes every mail; a recipient named `broken@…` breaks it."""

    def __init__(self) -> None:
        self.senders: list[str] = []
        self.contents: list[bytes] = []

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Remember the sender."""
        self.senders.append(address)
        envelope.mail_from = address
        return "250 ok"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the recipient."""
        if address.startswith("broken@"):
            raise RuntimeError("secret detail of the store")
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take the mail."""
        assert isinstance(envelope.content, bytes)
        self.contents.append(envelope.content)
        return "250 taken"


@contextlib.asynccontextmanager
async def stock(handler: Any, **options: Any) -> AsyncIterator[int]:
    """The stock server on a free port of 127.0.0.1; `options` are its constructor's."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, hostname="stock.test", loop=loop, **options), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
