"""What an etcd client takes, gives and raises, without a word of gRPC; `syncd.etcd` is the client."""

from dataclasses import dataclass

PAGE = 5000
"""Keys a page: every page makes etcd recount the rest of the range, 200 a page take 14 times as long."""
MAX_OPERATIONS = 120
"""In one transaction; etcd takes 128."""
MAX_WRITE_BYTES = 1024 * 1024
"""Of values in one transaction; etcd takes 1.5 MiB a request."""


class EtcdError(Exception):
    """Base of what this client raises."""


class EtcdAway(EtcdError):
    """No answer in time, or no connection: close this one and dial again."""


class EtcdRefused(EtcdError):
    """etcd answered, and will not do it: no permission, a malformed request, its quota used up."""


class TooLarge(EtcdError):
    """An answer of more bytes than the client takes; ask for a smaller page."""


class LeaseGone(EtcdError):
    """The lease has ended."""


class Compacted(EtcdError):
    """The wanted revision is no longer kept: list again."""


@dataclass(frozen=True, slots=True)
class Item:
    """A key as it is, or as an event made it; `value` None: deleted. `revision` is etcd's, of its last change."""

    key: str
    value: bytes | None
    revision: int


@dataclass(frozen=True, slots=True)
class Page:
    """Keys at one revision of one cluster."""

    items: tuple[Item, ...]
    revision: int
    cluster: int

    def values(self) -> dict[str, bytes]:
        """Value by key."""
        return {item.key: item.value for item in self.items if item.value is not None}


@dataclass(frozen=True, slots=True)
class Changes:
    """What one answer of a watch brought: whole revisions, in order; none for a sign of life.

    `revision` is etcd's at that moment. It is no position to resume from: an answer to a progress request can overtake
    events (etcd issue 15220). Positions come from the items.
    """

    items: tuple[Item, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition of a transaction: the key's last change was at `revision`; 0: it does not exist."""

    key: str
    revision: int


Write = tuple[str, bytes | None]
"""A key and its new value; None deletes it."""


def after(prefix: str) -> str:
    """The end of the range of keys that begin with `prefix`."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
