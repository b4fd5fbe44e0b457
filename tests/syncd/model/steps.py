"""Coroutines run one question at a time: whoever asks a simulated service waits until the model lets it go on.

No event loop, no clock: the model decides who goes on, and whether an answer comes, is lost, or never was.
"""

from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any


class Crashed(BaseException):
    """What a killed process meets at the question it waits for. (Closing a coroutine amid an asynchronous generator
    is what CPython 3.11 cannot do.)"""


class Ask:
    """One question to a simulated service; `await Ask(service, act)` is its answer."""

    def __init__(self, service: str, act: Callable[[], Any]) -> None:
        self.service, self.act = service, act

    def __await__(self) -> Generator["Ask", Any, Any]:
        return (yield self)


class Actor:
    """A coroutine and the question that it waits for."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self.question: Ask | None = None
        self._advance(lambda: coroutine.send(None))

    def answer(self) -> None:
        """Let it go on with the service's answer, or the error the service raises."""
        question, self.question = self.question, None
        try:
            answer = question.act() if question else None
        except Exception as error:  # noqa: BLE001 - what a service raises is for the coroutine
            raised = error
            self._advance(lambda: self._coroutine.throw(raised))
        else:
            self._advance(lambda: self._coroutine.send(answer))

    def lose(self, error: Exception, *, after: bool) -> None:
        """Let the question fail: with `after` what was asked was done, and only the answer is lost."""
        question, self.question = self.question, None
        if after and question:
            with suppress(Exception):  # nobody hears what the service said
                question.act()
        self._advance(lambda: self._coroutine.throw(error))

    def crash(self) -> None:
        """End it where it stands, as a kill does: nothing more is done."""
        with suppress(Crashed):
            self._coroutine.throw(Crashed())

    def _advance(self, step: Callable[[], Any]) -> None:
        while self.question is None:
            self.question = step()  # None: it only gave others a turn
            step = lambda: self._coroutine.send(None)  # noqa: E731
