"""Proof that a domain is its new owner's: a TXT record that only who runs its zone can publish."""

import asyncio

import dns.asyncresolver
import dns.exception
import dns.resolver

from control.store.errors import Invalid
from syncd.config import Control

LABEL = "_mxfleet"
WITHIN_S = 5.0


def record(account_id: str) -> str:
    """The text that the record has to hold."""
    return f"account={account_id}"


async def require_proof(settings: Control, account_id: str, name: str) -> None:
    """Raises Invalid, with the record to publish, unless `_mxfleet.<name>` holds it; a silent DNS is no proof."""
    try:
        found = await asyncio.wait_for(_texts(settings, f"{LABEL}.{name}"), WITHIN_S)
    except (dns.exception.DNSException, OSError, TimeoutError):
        found = set()
    if record(account_id) not in found:
        raise Invalid(
            "name", f'prove that it is yours: publish “{LABEL}.{name}. TXT "{record(account_id)}"”, then ask again'
        )


async def _texts(settings: Control, name: str) -> set[str]:
    resolver = dns.asyncresolver.Resolver(configure=not settings.resolver)
    for server in settings.resolver:
        host, _, port = server.rpartition(":")
        resolver.nameservers = [*resolver.nameservers, host]
        resolver.nameserver_ports[host] = int(port)
    answer = await resolver.resolve(name + ".", "TXT", lifetime=WITHIN_S)
    return {b"".join(each.strings).decode("utf-8", "replace") for each in answer}
