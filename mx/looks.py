"""Runs the looks of filters: each once per session for equal settings, under its deadline, unsure on any error.

A look whose facts do not depend on the recipient gets no recipient to see. Its facts are shared by
everybody under the same policy and, up to the HELO stage, by the transactions of a connection.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from monitoring import log
from monitoring.metrics import mx as metrics
from mx.filter import Filter, Seen, Stage, Tools
from mx.services import KnownPolicy, Services

_log = log.get(__name__)
_seconds = lru_cache(maxsize=None)(metrics.filter_seconds.labels)

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a look found; `failed` is "" or why there is nothing, and then `value` is None."""

    value: Any
    ms: float
    failed: str = ""


class Looks:
    """The looks of one connection. Owns their tasks; `close` ends those still running."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._by_name = {filter_.name: filter_ for filter_ in services.filters}
        self._tasks: dict[_Key, tuple[Stage, asyncio.Task[Facts]]] = {}

    def start(self, policy: KnownPolicy, seen: Seen, *, upto: Stage) -> None:
        """Begin every look that this policy wants and whose stage is complete; `seen` names the recipient."""
        for filter_ in self._services.filters:
            if filter_.stage <= upto and policy.sections[filter_.name].mode != "off":
                self._task(filter_, policy, seen)

    async def facts(self, filter_: Filter, policy: KnownPolicy, seen: Seen) -> Facts:
        """The facts of one filter, looked at now if they were not yet."""
        return await asyncio.shield(self._task(filter_, policy, seen))

    def forget(self, since: Stage) -> None:
        """Drop what depends on this stage or a later one: at HELO, and when a transaction ends."""
        for key, (stage, task) in list(self._tasks.items()):
            if stage >= since:
                task.cancel()
                del self._tasks[key]

    def close(self) -> None:
        """End all looks; the connection is gone."""
        self.forget(Stage.CONNECT)

    def _task(self, filter_: Filter, policy: KnownPolicy, seen: Seen) -> asyncio.Task[Facts]:
        key = (filter_.name, policy.hash, seen.recipient if filter_.per_recipient else seen.domain)
        if key not in self._tasks:
            task = asyncio.create_task(self._look(filter_, policy, seen), name=f"look {filter_.name}")
            self._tasks[key] = (filter_.stage, task)
        return self._tasks[key][1]

    async def _look(self, filter_: Filter, policy: KnownPolicy, seen: Seen) -> Facts:
        began = time.perf_counter()
        settings = policy.sections[filter_.name]
        shown = seen if filter_.per_recipient else replace(seen, recipient="")
        try:
            async with asyncio.timeout(filter_.deadline_s):
                value = await filter_.look(shown, settings, self._tools(policy, seen))
            failed = ""
        except Exception as error:  # noqa: BLE001 - a wall: no filter may stop the mail (promise 3)
            value, failed = None, f"{type(error).__name__}: {error}"[:200]
            metrics.filter_unsure.labels(filter_.name).inc()
            _log.warning("look_failed", filter=filter_.name, id=seen.id, error=failed)
        took_s = time.perf_counter() - began
        _seconds(filter_.name).observe(took_s)
        return Facts(value, took_s * 1000, failed)

    def _tools(self, policy: KnownPolicy, seen: Seen) -> Tools:
        async def facts_of(name: str) -> Any:
            return (await self.facts(self._by_name[name], policy, seen)).value

        return Tools(self._services.resolver, policy.lists, time.time(), facts_of)
