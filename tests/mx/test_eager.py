"""A coroutine run to its first wait and finished by a task: results, errors and cancellation arrive."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from mx.eager import at_once, rest_of
from mx.looks import _may_wait


def _begun(work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    return asyncio.get_running_loop().create_task(rest_of(work, work.send(None)))


async def test_the_rest_runs_over_several_waits() -> None:
    gates = [asyncio.get_running_loop().create_future() for _ in range(3)]

    async def work() -> list[int]:
        return [await gate for gate in gates]

    task = _begun(work())
    for number, gate in enumerate(gates):
        gate.set_result(number)
        await asyncio.sleep(0)
    assert await task == [0, 1, 2]


async def test_an_error_of_what_is_waited_for_reaches_the_work_and_its_own_reaches_the_task() -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        with pytest.raises(OSError, match="first"):
            await gate
        raise ValueError("second")

    task = _begun(work())
    gate.set_exception(OSError("first"))
    with pytest.raises(ValueError, match="second"):
        await task


async def test_cancelling_reaches_the_work_at_each_of_its_waits() -> None:
    for waits in (1, 2, 3):
        cleaned = []

        async def work(cleaned: list[str] = cleaned) -> None:
            try:
                for _ in range(10):
                    await asyncio.sleep(0)
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append("yes")

        task = _begun(work())
        for _ in range(waits):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cleaned == ["yes"]


async def test_what_swallows_its_cancellation_goes_on() -> None:
    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "done"

    task = _begun(work())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "done"


async def test_at_once() -> None:
    async def quick() -> int:
        return 7

    async def waits() -> None:
        await asyncio.sleep(0)

    async def fails() -> None:
        raise KeyError("x")

    assert at_once(quick()) == 7
    with pytest.raises(RuntimeError, match="waits"):
        at_once(waits())
    with pytest.raises(KeyError):
        at_once(fails())


async def test_whether_a_look_may_wait_is_read_from_its_code() -> None:
    async def no_wait(a: object, b: object, c: object) -> int:
        return sum(each is None for each in (a, b, c))

    async def waits_in_a_branch(a: object, b: object, c: object) -> None:
        if a:
            await asyncio.sleep(0)

    async def waits_in_a_context(a: object, b: object, c: object) -> None:
        async with asyncio.Lock():
            pass

    assert not _may_wait(no_wait)
    assert _may_wait(waits_in_a_branch)
    assert _may_wait(waits_in_a_context)
    assert _may_wait(asyncio.sleep)
    assert _may_wait(print)
