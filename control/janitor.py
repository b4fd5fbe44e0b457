"""The janitor's process: delivers released and deferred mail, and removes what is over.

It starts and waits whatever is away. Of several that run, one works.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop

from control import delivery
from control.quarantine import bulk, closing, jobs, later, leaving, packs, retention
from control.quarantine.bodies import Following
from control.quarantine.bulk_steps import Stepping
from control.quarantine.delivering import Delivering
from control.quarantine.duty import Duty
from control.quarantine.extracting import Extractor
from control.quarantine.packs import Packs
from control.quarantine.releasing import Releasing
from control.store import pool as pools
from control.store.pool import AWAY
from control.store.tidying import tidy
from monitoring import log
from monitoring.exporter import Exporter
from monitoring.metrics import control as metrics
from syncd.config import ConfigError, Control

RELEASES_AT_ONCE = 8
LATER_AT_ONCE = 4
BESIDE = 3
"""Connections for what goes on beside deliveries: figures, upkeep, the index of bodies."""
GRACE_S = 10.0
"""For dialogues under way at the end; a mail that is sent and not answered by then ends as unknown."""
LOOK_EVERY_S = 2.0
"""For work that nobody told of: later mail that is due, a notice that was lost."""
FIGURES_EVERY_S = 5.0
ORPHANED_AFTER = timedelta(seconds=30)
UPKEEP_EVERY_S = 3600.0
UPKEEP_AGAIN_S = 60.0
"""After an upkeep that did not get through."""
LOG = log.get(__name__)

One = Callable[[], Awaitable[bool]]


def run(settings: Control, *, metrics_port: int) -> None:
    """Work until SIGTERM or SIGINT."""
    uvloop.run(_run(settings, metrics_port))


async def _run(settings: Control, metrics_port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    pool = await pools.create(settings.database, size=RELEASES_AT_ONCE + LATER_AT_ONCE + BESIDE)
    janitor = Janitor(settings, pool, packs.open(settings))
    exporter = Exporter(settings.metrics_host, metrics_port, lambda: janitor.trouble)
    try:
        async with asyncio.TaskGroup() as tasks:
            beat = tasks.create_task(exporter.beat())
            await janitor.run(stop)
            beat.cancel()
    finally:
        pool.terminate()
        exporter.close()


class Janitor:
    """Everything the process does, until it is told to stop."""

    def __init__(self, settings: Control, pool: Any, place: Packs) -> None:
        """Raises ConfigError when the installation's secret cannot be read."""
        name = delivery.hostname(settings.panel_url)
        self._pool, self._packs = pool, place
        self._releasing = Releasing(pool, place, _secret(settings), name)
        self._delivering = Delivering(pool, place, name)
        self._following = Following(pool, place, Extractor())
        self._stepping = Stepping(pool)
        self._duty = Duty(settings.database, self._recover)
        self._stopping = False

    @property
    def trouble(self) -> str:
        """Why it does not work; "" when it does."""
        return self._duty.trouble

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then begin nothing new, and give what is under way `GRACE_S`."""
        async with asyncio.TaskGroup() as tasks:
            workers = [tasks.create_task(self._work(self._releasing.one)) for _ in range(RELEASES_AT_ONCE)]
            workers += [tasks.create_task(self._work(self._delivering.one)) for _ in range(LATER_AT_ONCE)]
            for one in (self._following.one, self._stepping.one, self._leave):
                workers.append(tasks.create_task(self._work(one)))
            beside = [tasks.create_task(each) for each in (self._duty.run(), self._figures(), self._upkeep())]
            await stop.wait()
            self._stopping = True
            await self._finish(workers)
            for task in (*workers, *beside):
                task.cancel()
        await self._following.close()

    async def _finish(self, workers: list[asyncio.Task[None]]) -> None:
        """Let what is under way come to its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                while self._releasing.under_way or self._delivering.under_way:
                    await asyncio.wait(workers, timeout=0.1)

    async def _work(self, one: One) -> None:
        while not self._stopping:
            await self._duty.begun.wait()
            news = self._duty.news  # taken before looking: what is told while we look is not missed
            try:
                if await one():
                    continue
            except AWAY as error:
                LOG.warning("database away", error=repr(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await news.wait()

    async def _leave(self) -> bool:
        return await leaving.step(self._pool)

    async def _recover(self) -> None:
        """Put in order what a dead janitor left; done before any work."""
        await self._orphans(timedelta(0))

    async def _orphans(self, silent: timedelta) -> None:
        again, unknown = await jobs.recover(self._pool, list(self._releasing.under_way), silent)
        resumed = await later.recover(self._pool, list(self._delivering.under_way), silent)
        if again or unknown or resumed:
            LOG.warning("work of a dead janitor", again=again, unknown=unknown, later=resumed)
            metrics.jobs.labels("release", "unknown").inc(unknown)

    async def _figures(self) -> None:
        while True:
            with suppress(*AWAY):
                metrics.jobs_waiting.set(await jobs.waiting(self._pool))
                metrics.later_waiting.set(await later.waiting(self._pool))
                if self._duty.begun.is_set():
                    await self._orphans(ORPHANED_AFTER)
            await asyncio.sleep(FIGURES_EVERY_S)

    async def _upkeep(self) -> None:
        """Remove what is over, once at the start and then every hour."""
        while True:
            await self._duty.begun.wait()
            await asyncio.sleep(UPKEEP_EVERY_S if await self._upkeep_once() else UPKEEP_AGAIN_S)

    async def _upkeep_once(self) -> bool:
        try:
            await retention.expire(self._pool, self._packs, datetime.now(UTC))
            await tidy(self._pool)
            await bulk.tidy(self._pool)
            await closing.close(self._pool)
        except Exception:
            LOG.exception("upkeep failed; mail is delivered all the same")
            return False
        return True


def _secret(settings: Control) -> bytes:
    try:
        return Path(settings.secret_file).read_bytes()
    except OSError as error:
        raise ConfigError(f"secret_file: {error}") from error
