"""What comes from etcd goes into one change of a node's store: served, noted as unreadable, or served no longer.

Keeps digest, count and the list of unreadable keys as it goes. No I/O of its own.
"""

from collections.abc import Callable, Collection

from monitoring import log
from syncd import keys
from syncd.lastgood import Change
from syncd.published import HASH_CHARS, Tally, Unreadable, element, opened, shards_named
from syncd.status import Status

Decode = Callable[[str, bytes], None]
"""Given a key and its canonical bytes, raises `Unreadable` when the declarations that will judge cannot read them."""

_log = log.get(__name__)


class Intake:
    """Into `change`, on top of what the store is by `status`; `anew` for a load, which finds every key there is."""

    def __init__(self, change: Change, decode: Decode, status: Status, *, anew: bool) -> None:
        self._change, self._decode, self._status = change, decode, status
        self.tally = Tally() if anew else Tally(status.digest, status.count)
        self.unreadable: set[str] = set() if anew else set(status.unreadable)

    def changed(self, key: str, value: bytes | None) -> None:
        """A watch says that a key has this value now; None: it is gone."""
        hashed = None if value is None else element(key, value)
        self.tally.change(self._change.hash_of(key), hashed)
        self._put(key, value, hashed)

    def found(self, key: str, value: bytes) -> None:
        """A load finds a key; what is here already is not decoded again."""
        hashed = element(key, value)
        self.tally.change(None, hashed)
        if self._change.hash_of(key) != hashed or key in self._status.unreadable:
            self._put(key, value, hashed)

    def drop_all_but(self, kept: Collection[str], start: str, end: str) -> None:
        """A load has passed this range, and only these keys are in it."""
        for key in self._change.keys(start, end):
            if key not in kept:
                self._drop(key)

    def _put(self, key: str, value: bytes | None, hashed: bytes | None) -> None:
        self.unreadable.discard(key)
        if value is None or hashed is None:
            self._drop(key)
            return
        try:
            self._decode(key, opened(key, value))
        except Unreadable as error:
            _log.error("unreadable", key=key, error=str(error))
            self.unreadable.add(key)
            self._change.put_unreadable(key, hashed)
        else:
            self._change.put(key, value, hashed)

    def _drop(self, key: str) -> None:
        """But a list that an old value needs, which is served because we cannot read the new one, is served on."""
        if key.startswith(keys.SHARDS) and key.removeprefix(keys.SHARDS) in self._needed():
            self._change.keep_serving(key)
        else:
            self._change.delete(key)

    def _needed(self) -> set[str]:
        served = [self._change.value(key) for key in self.unreadable]
        return {name for value in served if value for name in shards_named(value[HASH_CHARS:])}
