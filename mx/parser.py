"""Parses messages in processes that can be killed: a worker's pool of one, of two under load.

A message that is over its time or memory, or that breaks the parser, comes back *unchecked* with its
header fields, and the next one gets a new process. `unchecked` never means clean.
"""

import asyncio
import time
from types import TracebackType

from monitoring import log
from monitoring.metrics import mx as metrics
from mx.checks import mime_text
from mx.checks.mime_process import Broken, ParserProcess
from mx.filter import Message

CHILDREN = 2
"""At most, each of some 20 MB: one that nobody needs for IDLE_S ends, the last one stays."""
BUDGET_S = 3.0
"""Of one message, on the wall clock; ordinary mail takes milliseconds."""
WAIT_S = 10.0
"""For a free process. All that wait behind hostile mail get their turn in order, or go unchecked."""
IDLE_S = 30.0
HEADER_BYTES = 64 * 1024
"""How much of a message is read for its header fields here, where the event loop waits for it."""

_log = log.get(__name__)


class Parser:
    """The pool. Processes start with the first message; all have ended when the context is left.

    `budget_s` and `wait_s` as the constants of this file.
    """

    def __init__(self, *, children: int = CHILDREN, budget_s: float = BUDGET_S, wait_s: float = WAIT_S) -> None:
        self._turns = asyncio.Semaphore(children)
        self._budget_s, self._wait_s = budget_s, wait_s
        self._idle: list[ParserProcess] = []
        self._running: set[ParserProcess] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def __aenter__(self) -> "Parser":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        if self._timer:
            self._timer.cancel()
        self._idle.clear()
        await asyncio.gather(*self._endings, *(self._end(child) for child in list(self._running)))

    @property
    def pids(self) -> tuple[int, ...]:
        """Pids of the running processes."""
        return tuple(child.pid for child in self._running)

    async def parse(self, raw: bytes) -> Message:
        """The message parsed; `Message.unchecked` says why it could not be. A cancelled call costs its process."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._turns.acquire()
        except TimeoutError:
            return _unchecked(raw, "busy", f"no parser was free within {self._wait_s:g} s")
        try:
            return await self._parsed(raw)
        finally:
            self._turns.release()

    async def _parsed(self, raw: bytes) -> Message:
        child: ParserProcess | None = None
        began = time.perf_counter()
        try:
            child = await self._child()
            async with asyncio.timeout(self._budget_s):
                message, is_tired = await child.parse(raw)
            if not is_tired:
                self._rest(child)
                child = None
            return _counted(raw, message)
        except TimeoutError:
            return _unchecked(raw, "late", f"it takes longer than {self._budget_s:g} s to take apart")
        except Broken as error:
            return _unchecked(raw, "broken", str(error))
        finally:
            metrics.parser_seconds.observe(time.perf_counter() - began)
            if child:
                await self._end(child)

    async def _child(self) -> ParserProcess:
        """The process that rested last, a new one where none does. Raises Broken."""
        while self._idle:
            child = self._idle.pop()
            if child.is_alive:
                return child
            await self._end(child)
        if self._is_closed:
            raise Broken("the worker is ending")
        child = await ParserProcess.start()
        self._running.add(child)
        metrics.parser_children.set(len(self._running))
        try:
            await child.ready()
        except BaseException:
            await self._end(child)
            raise
        return child

    async def _end(self, child: ParserProcess) -> None:
        self._running.discard(child)
        metrics.parser_children.set(len(self._running))
        await child.kill()

    def _rest(self, child: ParserProcess) -> None:
        child.rested_at = time.monotonic()
        self._idle.append(child)
        self._watch_idle()

    def _watch_idle(self) -> None:
        if self._timer is None and len(self._idle) > 1 and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(IDLE_S, self._shrink)

    def _shrink(self) -> None:
        """End those that nobody needed for a while, but for the one that rested last."""
        self._timer = None
        before = time.monotonic() - IDLE_S
        for child in [one for one in self._idle[:-1] if one.rested_at <= before]:
            self._idle.remove(child)
            ending = asyncio.create_task(self._end(child), name="end of an idle parser")
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
        self._watch_idle()


def _counted(raw: bytes, message: Message) -> Message:
    """The process's answer; where it lost the header as well, with the fields."""
    if not message.unchecked:
        metrics.parser_messages.labels("parsed").inc()
        return message
    return _unchecked(raw, "limits", message.unchecked, message.headers)


def _unchecked(raw: bytes, result: str, why: str, fields: tuple[tuple[str, str], ...] = ()) -> Message:
    metrics.parser_messages.labels(result).inc()
    _log.warning("message_unchecked", why=why, size=len(raw))
    return Message(fields or mime_text.header_fields(raw[:HEADER_BYTES])[0], (), len(raw), unchecked=why)
