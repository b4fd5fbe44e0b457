"""Puts the snapshots of changed domains into memcached, so that the first session after a change finds them there."""

import asyncio
from collections.abc import Iterable

from syncd import keys, snapshot
from syncd.lastgood import NotHere, Writer
from syncd.memcache import Memcache
from syncd.published import Unreadable

MOST = 200
"""Domains that wait to be warmed; after a bulk change the rest is resolved by whoever asks first."""


class Warmer:
    """Warms in the background of a follower, behind its receipts."""

    def __init__(self, memcache: Memcache) -> None:
        self._memcache = memcache
        self._accounts = snapshot.Accounts()
        self._wanted: dict[str, None] = {}
        self._news = asyncio.Event()

    def want(self, changed: Iterable[str]) -> None:
        """Warm the domains among these keys."""
        for key in changed:
            if key.startswith(keys.DOMAINS) and len(self._wanted) < MOST:
                self._wanted[key.removeprefix(keys.DOMAINS)] = None
        self._news.set()

    async def run(self, store: Writer) -> None:
        """Warm for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._wanted:
                domain, _ = self._wanted.popitem()
                self._warm(store, domain)
                await asyncio.sleep(0)

    def _warm(self, store: Writer, domain: str) -> None:
        try:
            with store.reading() as view:
                place = snapshot.place(view, domain, self._accounts)
                made = snapshot.make(view, place) if place else None
        except (Unreadable, NotHere):
            return  # whoever asks for it will be told why
        if place and made:
            self._memcache.set(place.name, domain, snapshot.encode(made))
