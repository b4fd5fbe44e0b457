"""Passwords: Argon2id by argon2-cffi's defaults (RFC 9106, the low-memory choice), off the event loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

LONGEST = 1000
"""Characters; hashing a novel is work that a stranger must not order."""
AT_ONCE = 2
"""Hashes computed at a time: each takes 64 MiB."""

_hasher = PasswordHasher()
_seats = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")


async def digest(password: str) -> str:
    """The hash to store."""
    return await asyncio.get_running_loop().run_in_executor(_seats, _hasher.hash, password)


async def fits(stored: str | None, password: str) -> bool:
    """Whether the password is the one whose hash was stored; for None, "no", in the time a wrong one takes."""
    return await asyncio.get_running_loop().run_in_executor(_seats, _fits, stored, password[:LONGEST])


@cache
def _nobody() -> str:
    """Compared with when there is no such user."""
    return _hasher.hash("nobody has this password")


def _fits(stored: str | None, password: str) -> bool:
    try:
        return _hasher.verify(stored or _nobody(), password.encode("utf-8", "surrogatepass")) and stored is not None
    except (VerificationError, InvalidHashError):
        return False
