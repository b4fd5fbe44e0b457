"""The TLS context of the SMTP front, renewed when its files change, without dropping a connection."""

import asyncio
import ssl
from pathlib import Path

from monitoring import log

LOOK_S = 10.0
"""How often the files are looked at; certificates are renewed days before they end."""

_log = log.get(__name__)


class Certificate:
    """Certificate and key of the front; `context` is what new TLS sessions get, None without a certificate.

    Raises OSError or ssl.SSLError when the files cannot be used at the start. P-256 keys are meant:
    an RSA-2048 handshake costs a third more CPU.
    """

    def __init__(self, cert: str, key: str) -> None:
        self._cert, self._key = cert, key
        self._read_at = self._changed_at() if cert else 0.0
        self._context = self._load() if cert else None

    def context(self) -> ssl.SSLContext | None:
        """The context of the moment; sessions under way keep theirs."""
        return self._context

    async def follow(self) -> None:
        """Run for ever: take a new certificate when the files change; a broken one is reported and not taken."""
        while self._cert:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> bool:
        """Take the files if they changed; whether a new certificate is in use."""
        try:
            changed_at = self._changed_at()
            if changed_at == self._read_at:
                return False
            self._context, self._read_at = self._load(), changed_at
        except (OSError, ssl.SSLError) as error:
            _log.error("certificate_not_usable", cert=self._cert, error=str(error))
            return False
        _log.info("certificate_renewed", cert=self._cert)
        return True

    def _changed_at(self) -> float:
        return max(Path(path).stat().st_mtime for path in (self._cert, self._key))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION  # a client could ask for one handshake after the other
        context.num_tickets = 1  # two are the default; a sender that comes again needs one, and each is paid for
        context.load_cert_chain(self._cert, self._key)
        return context
