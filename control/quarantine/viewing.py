"""Makes safe views in a child process of each mail's own: hostile mail can at worst spend the child's bounds.

`python -m control.quarantine.viewing` is the child: the mail on stdin, the view as JSON on stdout. Starting one takes
longer than most views, so that the panel keeps the next one ready.
"""

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from control.quarantine.safeview import SafeView, plain, render
from monitoring import log

WITHIN_S = 8.0
CPU_S = 6
MEMORY_BYTES = 2 * 1024**3
"""Address space, not use: a mail of 50 MB decoded a few times over fits."""
AT_ONCE = 4
_ROOT = Path(__file__).parents[2]
_NOTE = "This mail takes too long to be shown safely; the beginning of its source is shown instead."
_log = log.get(__name__)
_turns = asyncio.Semaphore(AT_ONCE)
_ready: list[asyncio.subprocess.Process] = []
"""Children that wait for a mail; none but inside `kept_ready`."""
_wanted: list[asyncio.Event] = []
"""Set when a view is done: the next child is started then, not while the view needs the processor."""


@asynccontextmanager
async def kept_ready() -> AsyncIterator[None]:
    """Inside, a child waits for the next mail to be viewed. For one event loop a process at a time."""
    wanted = asyncio.Event()
    wanted.set()
    _wanted.append(wanted)
    keeping = asyncio.create_task(_keep(wanted))
    try:
        yield
    finally:
        _wanted.remove(wanted)
        keeping.cancel()
        await asyncio.wait([keeping])
        while _ready:
            await _end(_ready.pop())


async def safe(raw: bytes) -> SafeView:
    """The safe view of a mail; for one that breaks its child's bounds, its source as text with a note that says so."""
    async with _turns:
        child = await _child()
        try:
            async with asyncio.timeout(WITHIN_S):
                out, _ = await child.communicate(raw)
            return msgspec.json.decode(out, type=SafeView)
        except (TimeoutError, msgspec.DecodeError, BrokenPipeError, ConnectionResetError):
            return await asyncio.to_thread(plain, raw, _NOTE)
        finally:
            await _end(child)
            for each in _wanted:
                each.set()


async def _keep(wanted: asyncio.Event) -> None:
    while True:
        await wanted.wait()
        wanted.clear()
        try:
            if not _ready:
                _ready.append(await _start())
        except OSError as error:  # no processes now: each view tries for itself
            _log.warning("no_child_ready", error=str(error))


async def _child() -> asyncio.subprocess.Process:
    """The child that is ready and alive, or a new one."""
    while _ready:
        if (child := _ready.pop()).returncode is None:
            return child
    return await _start()


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=_ROOT,
    )


async def _end(child: asyncio.subprocess.Process) -> None:
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
