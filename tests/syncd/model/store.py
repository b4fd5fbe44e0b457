"""A node's store, simulated: whole transactions, or nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from syncd.status import Status


class Store:
    """With the interface of `syncd.lastgood.Writer`, as much of it as a follower uses."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.hashes: dict[str, bytes] = {}
        self.status = Status()

    @contextmanager
    def change(self) -> Iterator["Change"]:
        """As the writer."""
        change = Change(dict(self.values), dict(self.hashes))
        yield change
        if change.status is not None:
            self.values, self.hashes, self.status = change.values, change.hashes, change.status

    def say(self, status: Status) -> None:
        """As the writer."""
        self.status = status


class Change:
    """With the interface of `syncd.lastgood.Change`."""

    def __init__(self, values: dict[str, bytes], hashes: dict[str, bytes]) -> None:
        self.values, self.hashes = values, hashes
        self.status: Status | None = None

    def hash_of(self, key: str) -> bytes | None:
        """As the writer's."""
        return self.hashes.get(key)

    def put(self, key: str, value: bytes, hashed: bytes) -> None:
        """As the writer's."""
        self.values[key], self.hashes[key] = value, hashed

    def put_unreadable(self, key: str, hashed: bytes) -> None:
        """As the writer's."""
        self.hashes[key] = hashed

    def value(self, key: str) -> bytes | None:
        """As the writer's."""
        return self.values.get(key)

    def keep_serving(self, key: str) -> None:
        """As the writer's."""
        self.hashes.pop(key, None)

    def delete(self, key: str) -> None:
        """As the writer's."""
        self.values.pop(key, None)
        self.hashes.pop(key, None)

    def keys(self, first: str, end: str) -> list[str]:
        """As the writer's."""
        return sorted(key for key in self.hashes if first <= key < end)
