"""The node's memcached: a shared cache that may miss, hang, lie or be gone, and only ever costs time.

Keys name their content, so that a value can be missing but never old. Each value carries a checksum over its key, its
tenant and its bytes: junk, a cut value or another tenant's bytes are told apart from ours. A failure is followed by
`BREAKER_S` without memcached. pymemcache's `ignore_exc` is never used: it makes a hang look like a miss.
"""

import hashlib
import time
from collections.abc import Callable
from enum import StrEnum

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError

TIMEOUT_S = 0.05
BREAKER_S = 1.0
MAX_VALUE_BYTES = 1_000_000
"""Below memcached's 1 MiB an item, its own header included."""
_CHECK_BYTES = 16
_PREFIX = "mxfleet:1:"
"""The 1 is that of our own form of values."""


class Answer(StrEnum):
    """How a read ended; the label of the metric."""

    HIT = "hit"
    MISS = "miss"
    ERROR = "error"
    """No answer in time, no connection, or the breaker is open."""
    JUNK = "junk"
    """Bytes that are not what was stored under this key for this tenant."""


class Memcache:
    """One connection to memcached on a unix socket, made when needed. Synchronous: 40 µs, or at most `TIMEOUT_S`."""

    def __init__(self, socket: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = Client("unix:" + socket, connect_timeout=TIMEOUT_S, timeout=TIMEOUT_S)
        self._clock = clock
        self._closed_until = 0.0

    def get(self, name: str, tenant: str) -> tuple[Answer, bytes]:
        """How it ended, and the value of a hit."""
        if self._clock() < self._closed_until:
            return Answer.ERROR, b""
        try:
            found = self._client.get(_PREFIX + name)
        except (OSError, MemcacheError, ValueError):
            self._fail()
            return Answer.ERROR, b""
        if found is None:
            return Answer.MISS, b""
        value: bytes = found[_CHECK_BYTES:]
        if found[:_CHECK_BYTES] != _check(name, tenant, value):
            return Answer.JUNK, b""
        return Answer.HIT, value

    def set(self, name: str, tenant: str, value: bytes, *, ttl_s: int = 0) -> bool:
        """Store a value; False when that was not possible. `ttl_s` 0: until it is evicted."""
        if len(value) > MAX_VALUE_BYTES or self._clock() < self._closed_until:
            return False
        try:
            # With its answer waited for: an unread complaint would be taken for the answer to the next question.
            stored = self._client.set(_PREFIX + name, _check(name, tenant, value) + value, expire=ttl_s, noreply=False)
        except (OSError, MemcacheError, ValueError):
            self._fail()
            return False
        return bool(stored)

    def close(self) -> None:
        """Drop the connection."""
        self._client.close()

    def _fail(self) -> None:
        """Drop the connection, so that an answer that comes late meets nobody's question; pause."""
        self._client.close()
        self._closed_until = self._clock() + BREAKER_S


def _check(name: str, tenant: str, value: bytes) -> bytes:
    bound = f"{name}\0{tenant}\0".encode()
    return hashlib.blake2b(bound + value, digest_size=_CHECK_BYTES).digest()
