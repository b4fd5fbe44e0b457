"""Reads the words of bodies in a child process that can be killed: hostile mail costs its own words, nothing else.

`python -m control.quarantine.extracting` is the child: mails on stdin, their words on stdout, each behind its length.
One child reads many mails, for starting one takes longer than reading fifty.
"""

import asyncio
import os
import resource
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from control.quarantine import bodytext
from monitoring import log
from monitoring.metrics import control as metrics

WITHIN_S = 5.0
"""For one mail; then the child is killed, and the mail is indexed by its header alone."""
START_WITHIN_S = 20.0
MEMORY_BYTES = 2 * 1024**3
"""Address space, not use."""
_LENGTH = struct.Struct("<I")
_READY = b""
_ROOT = Path(__file__).parents[2]
_log = log.get(__name__)


class Extractor:
    """Gives the words of mails, one at a time."""

    def __init__(self, within_s: float = WITHIN_S) -> None:
        self._within_s = within_s
        self._child: asyncio.subprocess.Process | None = None

    async def words(self, txn: str, raw: bytes) -> str:
        """The words of one body; "" for a mail that breaks the child's bounds. Cancelled, it kills the child."""
        try:
            child = await self._running()
            async with asyncio.timeout(self._within_s):
                return (await _ask(child, raw)).decode()
        except (TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            await self.close()
            metrics.bodies_unread.inc()
            _log.warning("body_unread", id=txn, error=repr(error))
            return ""
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the child; the next mail starts another."""
        child, self._child = self._child, None
        if child:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()

    async def _running(self) -> asyncio.subprocess.Process:
        """The child, ready to read. Raises OSError, TimeoutError."""
        if self._child is None:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                __name__,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=_ROOT,
            )
            async with asyncio.timeout(START_WITHIN_S):
                await _answer(self._child)
        return self._child


def main() -> None:
    """Words of one mail after another, until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)  # a search may be a moment behind, mail may not
    _write(_READY)
    while (raw := _read(sys.stdin.buffer)) is not None:
        _write(bodytext.of_mail(raw).encode())


async def _ask(child: asyncio.subprocess.Process, raw: bytes) -> bytes:
    assert child.stdin, "the child was made with pipes"
    child.stdin.write(_LENGTH.pack(len(raw)))
    child.stdin.write(raw)
    await child.stdin.drain()
    return await _answer(child)


async def _answer(child: asyncio.subprocess.Process) -> bytes:
    assert child.stdout, "the child was made with pipes"
    (length,) = _LENGTH.unpack(await child.stdout.readexactly(_LENGTH.size))
    return await child.stdout.readexactly(length)


def _read(source: BinaryIO) -> bytes | None:
    head = source.read(_LENGTH.size)
    return source.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else None


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(_LENGTH.pack(len(data)) + data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
