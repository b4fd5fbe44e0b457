"""In-memory equals of a worker's neighbours, for tests of the front alone.

They stand for settings, spool, parser and resolver, which have tests of their own; a worker with
the real ones is tested in `tests/mx/test_worker.py` and end to end.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mx.filter import (
    PASS,
    Filter,
    FilterSettings,
    Message,
    Seen,
    Stage,
    Tools,
    Verdict,
    allow,
    defer,
    hold,
    refuse,
    score,
    tag,
)
from mx.filters.sections import Delivery, Refusal, Retention, Scoring
from mx.front import Front
from mx.ledger import Ledger
from mx.limits import Limits
from mx.policy import Absent, NotKnown
from mx.server import factory
from mx.services import Parses, Services
from mx.session import Reception
from syncd import config
from syncd.layers import NextHop
from syncd.nexthop import Pool, Timeouts
from syncd.spool.client import NotSecured
from syncd.spool.record import Kind, Record

HOSTNAME = "mx1.mxfleet.test"
PANEL = "https://panel.test"


class Words(FilterSettings, frozen=True, kw_only=True):
    """Settings of the tests' filters."""


async def _raw(seen: Seen, settings: Words, tools: Tools) -> bytes:
    if b"break-the-look" in seen.raw:
        raise RuntimeError("secret detail of the look")
    return seen.raw


def _by_words(facts: bytes, settings: Words) -> Verdict:
    if b"break-the-judge" in facts:
        raise RuntimeError("secret detail of the judge")
    table = {
        b"refuse-me": refuse("The message asks for it", word="refuse-me"),
        b"hold-me": hold("The message asks for it"),
        b"defer-me": defer("The message asks for it"),
        b"tag-me": tag("The message asks for it"),
        b"score-20": score(20, "Twenty points"),
        b"score-7": score(7, "Seven points"),
    }
    return next((verdict for word, verdict in table.items() if word in facts), PASS)


async def _sender(seen: Seen, settings: Words, tools: Tools) -> str:
    return seen.sender


def _friend(facts: str, settings: Words) -> Verdict:
    return allow("A friend") if facts.startswith("friend@") else PASS


async def _recipient(seen: Seen, settings: Words, tools: Tools) -> str:
    return seen.recipient


def _early(facts: str, settings: Words) -> Verdict:
    return refuse("Refused early", text="Not at this address") if facts.startswith("early-") else PASS


FILTERS = (
    Filter("friend", "Is it a friend?", Words, stage=Stage.MAIL, look=_sender, judge=_friend),
    Filter(
        "early",
        "Is it early?",
        Words,
        stage=Stage.RCPT,
        look=_recipient,
        judge=_early,
        per_recipient=True,
        early=True,
        bypassable=False,
    ),
    Filter("words", "What does it ask for?", Words, look=_raw, judge=_by_words),
)


@dataclass(frozen=True)
class ListedOnly:
    """Entries: none. Recipients: those given, or any when None."""

    local_parts: frozenset[str] | None = None

    def entry(self, layer: str, key: str) -> None:
        """No entry."""

    def is_empty(self, layer: str) -> bool:
        """It is."""
        return True

    def listed(self, local_part: str) -> bool | None:
        """Whether it is one of those given."""
        return None if self.local_parts is None else local_part in self.local_parts


@dataclass(frozen=True)
class Known:
    """A policy as `mx.policy.Policy` has it."""

    domain: str
    next_hops: tuple[NextHop, ...] = ()
    sections: Mapping[str, Any] = field(default_factory=dict)
    lists: Any = ListedOnly()
    account: str = "acc1"
    hash: str = "h" * 32
    generation: int = 1
    revision: int = 7

    def for_recipient(self, local_part: str) -> "Known":
        """Nobody here has a recipient layer."""
        return self


def sections(mode: str = "on", **changed: Any) -> dict[str, Any]:
    """Sections of a policy with every test filter in one mode."""
    return {
        "friend": Words(mode=mode),  # type: ignore[arg-type]
        "early": Words(mode=mode),  # type: ignore[arg-type]
        "words": Words(mode=mode),  # type: ignore[arg-type]
        "scoring": Scoring(),
        "refusal": Refusal(),
        "delivery": Delivery(),
        "retention": Retention(),
        **changed,
    }


class MemoryPolicies:
    """Policies by domain; a name in `not_known` raises, anything else is absent."""

    def __init__(self, policies: Sequence[Known], not_known: Sequence[str] = ("unsynced.test",)) -> None:
        self._policies = {policy.domain: replace(policy, hash=f"hash of {policy.domain}") for policy in policies}
        self._not_known = not_known
        self.unknown: set[tuple[str, str]] = set()
        self.in_rotation = True

    def find(self, domain: str) -> Any:
        """As `mx.policy.Policies.find`."""
        if domain in self._not_known:
            raise NotKnown("not synced yet")
        if domain == "broken.test":
            raise RuntimeError("secret detail of the store")
        return self._policies.get(domain) or Absent()

    def remember_unknown(self, domain: str, local_part: str) -> None:
        """Remember it."""
        self.unknown.add((domain, local_part))

    def is_remembered_unknown(self, domain: str, local_part: str) -> bool:
        """Whether it was remembered."""
        return (domain, local_part) in self.unknown


class MemorySpool:
    """A spool that secures in memory, or not at all while `is_away`."""

    def __init__(self) -> None:
        self.copies: list[tuple[Record, bytes]] = []
        self.events: list[Record] = []
        self.open: dict[str, int] = {}
        self.is_away = False

    async def secure(self, record: Record, body: bytes) -> None:
        """Keep the copy."""
        if self.is_away:
            raise NotSecured("the spool is away")
        self.copies.append((record, body))

    def event(self, record: Record) -> None:
        """Keep the event."""
        self.events.append(record)

    def opened(self, txn: str, recipients: int) -> None:
        """Note it."""
        self.open[txn] = recipients

    def closed(self, txn: str) -> None:
        """Note it."""
        del self.open[txn]

    def kept(self, kind: Kind = Kind.KEPT) -> list[tuple[str, bytes]]:
        """(recipient, body) of every copy of that kind."""
        return [(to.address, body) for record, body in self.copies if record.kind is kind for to in record.recipients]


class PlainParser:
    """Takes header fields apart and nothing else."""

    async def parse(self, raw: bytes) -> Message:
        """The message with its header fields only."""
        lines = raw.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        fields = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
        return Message(fields, (), len(raw))


class NoDns:
    """Nothing exists."""

    async def a(self, name: str) -> tuple[str, ...]:
        """Nothing."""
        return ()

    async def aaaa(self, name: str) -> tuple[str, ...]:
        """Nothing."""
        return ()

    async def txt(self, name: str) -> tuple[bytes, ...]:
        """Nothing."""
        return ()

    async def mx(self, name: str) -> tuple[tuple[int, str], ...]:
        """Nothing."""
        return ()

    async def ptr(self, address: str) -> tuple[str, ...]:
        """Nothing."""
        return ()


def node_config(**smtp: Any) -> config.Node:
    """A node's configuration; only what the front reads means anything."""
    smtp.setdefault("limits", config.SmtpLimits(idle_s=20.0))
    return config.Node(
        name="mx1",
        state_dir="",
        panel_url=PANEL,
        memcached_socket="",
        resolver=(),
        smtp=config.Smtp(**{"host": "127.0.0.1", "port": 0, "hostname": HOSTNAME, **smtp}),
        spool=config.Spool(socket="", journal_dir="", host="", port=0, receiver_host="", receiver_port=0),
        etcd=config.Etcd(endpoints=()),
        tls=config.Tls("", "", ""),
    )


@dataclass
class Running:
    """A front that listens, and what its neighbours saw."""

    port: int
    spool: MemorySpool
    policies: MemoryPolicies
    ledger: Ledger
    reception: Reception
    front: Front


@contextlib.asynccontextmanager
async def running(
    policies: Sequence[Known],
    *,
    tls: ssl.SSLContext | None = None,
    filters: tuple[Filter, ...] = FILTERS,
    parser: Parses | None = None,
    spill_dir: str | None = None,
    **smtp: Any,
) -> AsyncIterator[Running]:
    """The front on a free port of 127.0.0.1, with in-memory neighbours; `smtp` are settings of `config.Smtp`."""
    node = node_config(**smtp)
    spool, known = MemorySpool(), MemoryPolicies(policies)
    ledger = Ledger(spool)
    timeouts = Timeouts(connect_s=2, command_s=2, dot_s=2, total_s=5)
    pool = Pool()
    services = Services(node, known, spool, parser or PlainParser(), NoDns(), ledger, filters, timeouts, pool)
    reception = Reception(services, Limits(node.smtp.limits))
    front = Front(node.smtp, lambda: tls, spill_dir)
    server = await asyncio.get_running_loop().create_server(factory(reception, front), "127.0.0.1", 0)
    try:
        yield Running(server.sockets[0].getsockname()[1], spool, known, ledger, reception, front)
    finally:
        server.close()
        for session in front.sessions:
            session.shut_down(amid_mail=True)
        await reception.drained()
        await pool.close()
