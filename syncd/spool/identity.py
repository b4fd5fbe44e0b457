"""Who a peer is: TLS 1.3 with certificates of the installation's CA, and the URI in them.

A certificate says what its holder is in a URI of its subject alternative names: `mxfleet://node/<name>` or
`mxfleet://receiver`. Host names mean nothing here: addresses change, and a node must not pass for another.
"""

import os
import re
import ssl
from asyncio import StreamWriter

from syncd import config

RECEIVER = "mxfleet://receiver"
_NODE = "mxfleet://node/"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Identity:
    """Our side of every TLS connection. Renewed files are taken up by `refresh`."""

    def __init__(self, tls: config.Tls) -> None:
        """Raises OSError (also for what is no certificate)."""
        self._tls = tls
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.check_hostname = False
        for context in (self.server, self.client):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_mode = ssl.CERT_REQUIRED
        self._loaded = (0, 0)
        self.refresh()

    def refresh(self) -> bool:
        """Load the files again if they changed; new connections use them. Blocks some ms. Raises OSError."""
        found = (os.stat(self._tls.cert).st_mtime_ns, os.stat(self._tls.ca).st_mtime_ns)
        if found == self._loaded:
            return False
        for context in (self.server, self.client):
            context.load_verify_locations(self._tls.ca)
            context.load_cert_chain(self._tls.cert, self._tls.key)
        self._loaded = found
        return True


def node_uri(name: str) -> str:
    """What a node's certificate says."""
    return _NODE + name


def uris(writer: StreamWriter) -> tuple[str, ...]:
    """What the other end of a TLS connection is, by its verified certificate."""
    certificate = writer.get_extra_info("peercert") or {}
    return tuple(value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI")


def node_of(writer: StreamWriter) -> str:
    """Name of the node at the other end; "" when it is none."""
    names = [uri.removeprefix(_NODE) for uri in uris(writer) if uri.startswith(_NODE)]
    return next((name for name in names if is_name(name)), "")


def is_name(name: str) -> bool:
    """Whether this can be a node's name; it also becomes a directory's."""
    return _NAME.fullmatch(name) is not None
