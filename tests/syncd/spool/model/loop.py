"""An event loop of one simulated process: virtual time, simulated threads and connections; no real I/O, no order of its
own. The world runs its callbacks, one at a time."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.syncd.spool.model.network import SimServer, connect

if TYPE_CHECKING:
    from tests.syncd.spool.model.world import World

IDENTITY = "identity"


class SimLoop(asyncio.BaseEventLoop):
    """One process on one host. `is_dead` once it was killed: none of its callbacks runs any more."""

    def __init__(self, world: "World", host: str) -> None:
        super().__init__()
        self.world, self.host = world, host
        self.is_dead = self.is_frozen = False
        self.jobs: dict[int, Callable[[], Any]] = {}
        """What its threads are doing, or about to."""
        self.transports: dict[Any, None] = {}
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        """Virtual seconds."""
        return self.world.now

    def has_ready(self) -> bool:
        """Whether a callback can run now."""
        if self.is_frozen:
            return False
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        while scheduled and (scheduled[0].cancelled() or scheduled[0].when() <= self.world.now):
            handle = self.world.pop(scheduled)
            if not handle.cancelled():
                ready.append(handle)
        return bool(ready)

    def next_at(self) -> float:
        """When its next timer is due."""
        scheduled = self._scheduled  # type: ignore[attr-defined]
        return scheduled[0].when() if scheduled and not self.is_frozen else float("inf")

    def step(self) -> None:
        """Run one callback."""
        handle = self._ready.popleft()  # type: ignore[attr-defined]
        if handle.cancelled():
            return
        asyncio._set_running_loop(self)
        try:
            handle._run()
        finally:
            asyncio._set_running_loop(None)

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        """There is one thread."""
        return self.call_soon(callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """They are dropped when their time comes."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Done after a while, if the process lives until then; a power cut may catch it half way."""
        done = self.create_future()
        number = self.world.number()
        self.jobs[number] = lambda: func(*args)

        def work() -> None:
            if self.is_dead:
                return
            if self.is_frozen:
                self.world.after(0.01, work)
                return
            job = self.jobs.pop(number)
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to who waits
                self.call_soon(_set, done, None, error)
            else:
                self.call_soon(_set, done, result, None)

        self.world.after(self.world.disk_delay(self.host), work)
        return done

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **how: Any) -> Any:  # type: ignore[override]
        """Connect to a listener of another host."""
        return await connect(self, protocol_factory, (host, port), getattr(how.get("ssl"), "uri", ""))

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **how: Any) -> Any:  # type: ignore[override]
        """Connect to a listener of this host."""
        return await connect(self, protocol_factory, path, "")

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **how: Any) -> Any:  # type: ignore[override]
        """Listen."""
        return SimServer(self, protocol_factory, (host, port), getattr(how.get("ssl"), "uri", ""))

    async def create_unix_server(self, protocol_factory: Any, path: Any = None, *, sock: Any = None, **how: Any) -> Any:  # type: ignore[override]
        """Listen for this host."""
        return SimServer(self, protocol_factory, sock, "")

    def _failed(self, loop: Any, context: dict[str, Any]) -> None:
        if not self.is_dead:
            self.world.failed(f"{self.host}: {context.get('message')}: {context.get('exception')!r}")


def _set(done: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
