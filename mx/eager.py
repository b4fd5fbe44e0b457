"""Runs a coroutine up to its first wait without a task: most commands never wait, and a task costs more than they do.

Python 3.12 has the same as `asyncio.eager_task_factory`. Up to the first wait there is no current
task, so `asyncio.timeout` and `TaskGroup` may only be used behind one.
"""

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Rest(Generic[T]):
    """What is left of a coroutine that waits for something."""

    __slots__ = ("_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, T], waits_for: object) -> None:
        self._work, self._waits_for = work, waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    yield waits_for
                except BaseException as error:  # noqa: BLE001 - a cancellation or whatever it is: the work shall have it
                    waits_for = self._work.throw(error)
                else:
                    waits_for = self._work.send(None)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


async def rest_of(work: Coroutine[Any, Any, T], waits_for: object) -> T:
    """The rest of a coroutine whose first `send(None)` gave `waits_for`, for `create_task`. Cancelling reaches it."""
    return await _Rest(work, waits_for)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that never waits. Raises RuntimeError for one that does, and whatever it raises."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    work.close()
    raise RuntimeError(f"{work!r} waits")
