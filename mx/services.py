"""What the SMTP front works with: its neighbours by what it needs of them, in one place.

The interfaces are narrow on purpose; a worker fills them with the real ones, and unit tests of the
front fill them with small in-memory equals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mx.filter import Filter, Lists, Message, Resolver
from mx.filters import ORDER
from mx.ledger import Ledger, Told
from syncd.config import Node
from syncd.layers import NextHop
from syncd.nexthop import Pool, Timeouts
from syncd.spool.record import Record


class KnownPolicy(Protocol):
    """One domain's, or one recipient's, settings in force."""

    @property
    def domain(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def hash(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def revision(self) -> int: ...
    @property
    def sections(self) -> Mapping[str, Any]: ...
    @property
    def next_hops(self) -> Sequence[NextHop]: ...
    @property
    def lists(self) -> Lists: ...
    def for_recipient(self, local_part: str) -> "KnownPolicy":
        """The policy with the recipient's own layer on top."""


class KnownPolicies(Protocol):
    """Where policies are found (`mx.policy.Policies`)."""

    @property
    def in_rotation(self) -> bool:
        """Whether this node takes new sessions."""

    def find(self, domain: str) -> Any:
        """A policy, or an `Absent`. Raises `NotKnown`."""

    def remember_unknown(self, domain: str, local_part: str) -> None:
        """The next hop said 5.1.1 for it."""

    def is_remembered_unknown(self, domain: str, local_part: str) -> bool:
        """Whether it did within the last minutes."""


class Spool(Told, Protocol):
    """The node's spool process as a worker sees it (`syncd.spool.client.SpoolClient`)."""

    async def secure(self, record: Record, body: bytes) -> None:
        """Return once two hosts hold the copy. Raises `NotSecured` within the configured bound."""

    def event(self, record: Record) -> None:
        """What became of a transaction; nobody waits for it."""


class Parses(Protocol):
    """The pool of killable parsers (`mx.parser.Parser`)."""

    async def parse(self, raw: bytes) -> Message:
        """The message parsed; over its budget, `Message.unchecked` says so."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a transaction needs besides itself."""

    node: Node
    policies: KnownPolicies
    spool: Spool
    parser: Parses
    resolver: Resolver
    ledger: Ledger
    filters: tuple[Filter, ...] = ORDER
    relay_timeouts: Timeouts = field(default_factory=Timeouts)
    next_hops: Pool | None = None
    """Connections kept open to next hops; without it each relayed mail makes its own."""
