"""The trace fields we put before a message: Received, and Authentication-Results where something was checked."""

import re
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache

_ATOM_UNSAFE = re.compile(r"[^A-Za-z0-9.\-_\[\]:]")


@dataclass(frozen=True, slots=True)
class Passage:
    """How a message came to us, as its Received field tells."""

    id: str
    hostname: str
    client_ip: str
    helo: str
    at: float
    """Unix time."""
    esmtp: bool
    smtputf8: bool
    tls: str
    """TLS version and cipher, "" for none."""


def protocol(passage: Passage) -> str:
    """The `with` keyword: RFC 3848, and RFC 6531 section 4.3 for internationalised mail."""
    if not passage.esmtp:
        return "SMTP"
    name = "UTF8SMTP" if passage.smtputf8 else "ESMTP"
    return name + "S" if passage.tls else name


def received(passage: Passage, recipient: str = "") -> bytes:
    """The Received field (RFC 5321 section 4.4); `recipient` only where the copy goes to that one alone."""
    lines = [
        f"Received: from {_name(passage.helo)} ({_literal(passage.client_ip)})",
        f"by {passage.hostname} (mxfleet) with {protocol(passage)} id {passage.id}",
    ]
    if passage.tls:
        lines.append(f"(using {passage.tls})")
    if recipient:
        lines.append(f"for <{recipient}>")
    return ("\r\n\t".join(lines) + f";\r\n\t{_date(int(passage.at))}\r\n").encode()


def authentication_results(hostname: str, results: tuple[str, ...]) -> bytes:
    """The Authentication-Results field (RFC 8601), b"" when nothing was checked. Each result is `spf=pass smtp…`."""
    if not results:
        return b""
    return "".join(
        (f"Authentication-Results: {hostname}", *(f";\r\n\t{result}" for result in results), "\r\n")
    ).encode()


def spf_result(result: str, sender_domain: str, helo: str) -> str:
    """The SPF part of Authentication-Results (RFC 8601 section 2.7.2)."""
    if sender_domain:
        return f"spf={_name(result)} smtp.mailfrom={_name(sender_domain)}"
    return f"spf={_name(result)} smtp.helo={_name(helo)}"


@lru_cache(maxsize=4)
def _date(at: int) -> str:
    """A second's date, once for all mails of that second."""
    return formatdate(at)


def _name(text: str) -> str:
    """A peer's word as one atom: what cannot stand in a header field becomes "?", so nothing can end the field."""
    return _ATOM_UNSAFE.sub("?", text)[:255] or "unknown"


def _literal(client_ip: str) -> str:
    """An address literal (RFC 5321 section 4.1.3)."""
    return f"[IPv6:{client_ip}]" if ":" in client_ip else f"[{client_ip}]"
