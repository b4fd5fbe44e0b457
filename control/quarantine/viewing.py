"""Makes safe views in a child process of each mail's own: hostile mail can at worst spend the child's bounds.

`python -m control.quarantine.viewing` is the child: the mail on stdin, the view as JSON on stdout.
"""

import asyncio
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from control.quarantine.safeview import SafeView, plain, render

WITHIN_S = 8.0
CPU_S = 6
MEMORY_BYTES = 2 * 1024**3
"""Address space, not use: a mail of 50 MB decoded a few times over fits."""
AT_ONCE = 4
_ROOT = Path(__file__).parents[2]
_NOTE = "This mail takes too long to be shown safely; the beginning of its source is shown instead."
_turns = asyncio.Semaphore(AT_ONCE)


async def safe(raw: bytes) -> SafeView:
    """The safe view of a mail; for one that breaks its child's bounds, its source as text with a note that says so."""
    async with _turns:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=_ROOT,
        )
        try:
            async with asyncio.timeout(WITHIN_S):
                out, _ = await child.communicate(raw)
            return msgspec.json.decode(out, type=SafeView)
        except (TimeoutError, msgspec.DecodeError, BrokenPipeError, ConnectionResetError):
            return await asyncio.to_thread(plain, raw, _NOTE)
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()


def main() -> None:
    """One view."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)  # a page may wait for it, mail may not
    sys.stdout.buffer.write(msgspec.json.encode(render(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
