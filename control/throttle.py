"""A bound on how often something may be tried: so many within a window, for each key."""

import time
from collections import OrderedDict
from collections.abc import Callable

MOST_KEYS = 10_000
"""Beyond this the key seen longest ago is forgotten: memory is bounded whatever strangers type."""


class Throttle:
    """Counts tries a key in fixed windows. In memory: a restart forgives, which costs an attacker's patience little."""

    def __init__(self, limit: int, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._window_s, self._clock = limit, window_s, clock
        self._tries: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Seconds until the next try is allowed; 0 when it is allowed now."""
        began, count = self._tries.get(key, (0.0, 0))
        return max(0.0, began + self._window_s - self._clock()) if count >= self._limit else 0.0

    def count(self, key: str) -> None:
        """Note one try."""
        now = self._clock()
        began, count = self._tries.pop(key, (now, 0))
        if now - began >= self._window_s:
            began, count = now, 0
        self._tries[key] = (began, count + 1)
        while len(self._tries) > MOST_KEYS:
            self._tries.popitem(last=False)

    def give_back(self, key: str) -> None:
        """Take one try of a key back: it was no failure."""
        if key in self._tries:
            began, count = self._tries[key]
            self._tries[key] = (began, max(0, count - 1))
