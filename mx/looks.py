"""Runs the looks of filters: each once per session for equal settings, under its deadline, unsure on any error.

A look whose facts do not depend on the recipient gets no recipient to see. Its facts are shared by
everybody under the same policy and, up to the HELO stage, by the transactions of a connection. A look
that cannot wait is done at once; only one that may wait gets a task and needs its deadline.
"""

import asyncio
import dis
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

from monitoring import log
from monitoring.metrics import mx as metrics
from mx.eager import at_once
from mx.filter import Filter, Seen, Stage, Tools
from mx.judge import Judged
from mx.services import KnownPolicy, Services

_log = log.get(__name__)
_seconds = lru_cache(maxsize=None)(metrics.filter_seconds.labels)

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a look found; `failed` is "" or why there is nothing, and then `value` is None."""

    value: Any
    ms: float
    failed: str = ""


def key_of(filter_: Filter, policy: KnownPolicy, seen: Seen) -> Key:
    """What facts are remembered under: recipients of one domain share those that do not depend on the recipient."""
    return filter_.name, policy.hash, seen.recipient if filter_.per_recipient else seen.domain


class Looks:
    """The looks of one connection. Owns their tasks; `close` ends those still running."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._done: dict[Key, tuple[Stage, Facts]] = {}
        self._tasks: dict[Key, tuple[Stage, asyncio.Task[Facts]]] = {}
        self.judged: dict[Key, Judged] = {}
        """What was judged of these facts: judging is pure, so once for equal facts and settings, whoever receives."""
        self._shown: tuple[Seen, Seen] | None = None
        """What was last shown, with its recipient and without: made once for all filters."""

    def start(self, policy: KnownPolicy, seen: Seen, *, upto: Stage) -> None:
        """Begin every look that this policy wants and whose stage is complete; `seen` names the recipient."""
        for filter_ in self._services.filters:
            if filter_.stage <= upto and policy.sections[filter_.name].mode != "off":
                self._begin(filter_, policy, seen)

    async def facts(self, filter_: Filter, policy: KnownPolicy, seen: Seen) -> Facts:
        """The facts of one filter, looked at now if they were not yet."""
        key = self._begin(filter_, policy, seen)
        done = self._done.get(key)
        return done[1] if done else await asyncio.shield(self._tasks[key][1])

    def forget(self, since: Stage) -> None:
        """Drop what depends on this stage or a later one: at HELO, and when a transaction ends."""
        self._shown = None
        self.judged.clear()
        for key in [key for key, (stage, _) in self._done.items() if stage >= since]:
            del self._done[key]
        for key, (stage, task) in list(self._tasks.items()):
            if stage >= since:
                task.cancel()
                del self._tasks[key]

    def close(self) -> None:
        """End all looks; the connection is gone."""
        self.forget(Stage.CONNECT)

    def _begin(self, filter_: Filter, policy: KnownPolicy, seen: Seen) -> Key:
        key = key_of(filter_, policy, seen)
        if key in self._done or key in self._tasks:
            return key
        shown = seen if filter_.per_recipient else self._without_recipient(seen)
        look = _look(filter_, shown, policy.sections[filter_.name], self._tools(policy, seen))
        if _may_wait(filter_.look):
            self._tasks[key] = (filter_.stage, asyncio.create_task(look, name=f"look {filter_.name}"))
        else:
            self._done[key] = (filter_.stage, at_once(look))
        return key

    def _without_recipient(self, seen: Seen) -> Seen:
        if self._shown is None or self._shown[0] is not seen:
            self._shown = (seen, replace(seen, recipient=""))
        return self._shown[1]

    def _tools(self, policy: KnownPolicy, seen: Seen) -> Tools:
        async def facts_of(name: str) -> Any:
            return (await self.facts(_by_name(self._services.filters)[name], policy, seen)).value

        return Tools(self._services.resolver, policy.lists, time.time(), facts_of)


async def _look(filter_: Filter, seen: Seen, settings: Any, tools: Tools) -> Facts:
    began = time.perf_counter()
    failed = ""
    try:
        async with asyncio.timeout(filter_.deadline_s) if _may_wait(filter_.look) else nullcontext():
            value = await filter_.look(seen, settings, tools)
    except Exception as error:  # noqa: BLE001 - a wall: no filter may stop the mail (promise 3)
        value, failed = None, f"{type(error).__name__}: {error}"[:200]
        metrics.filter_unsure.labels(filter_.name).inc()
        _log.warning("look_failed", filter=filter_.name, id=seen.id, error=failed)
    took_s = time.perf_counter() - began
    _seconds(filter_.name).observe(took_s)
    return Facts(value, took_s * 1000, failed)


@cache
def _may_wait(look: Callable[..., object]) -> bool:
    """Whether a look has an `await` at all. One without is never run to a first wait by trial: a time-out that it
    began there would cancel whoever had started it."""
    code = getattr(look, "__code__", None)
    return code is None or any(each.opname == "GET_AWAITABLE" for each in dis.get_instructions(code))


@lru_cache(maxsize=8)
def _by_name(filters: tuple[Filter, ...]) -> dict[str, Filter]:
    return {filter_.name: filter_ for filter_ in filters}
