"""What a filter is: settings, a look that gathers facts, a judge that decides for one domain.

A filter is one file in `mx/filters/`, named by its question. It declares

    class Settings(FilterSettings): ...          # what a domain can choose; drives form, API, docs
    async def look(seen, settings, tools): ...   # all I/O; returns facts (JSON types in a struct or dict)
    def judge(facts, settings): ...              # pure; returns one Verdict
    FILTER = Filter(name=..., question=..., stage=..., settings=Settings, look=look, judge=judge)

and has one line in `mx.filters.ORDER`. `look` runs as soon as its stage is complete and the
recipient's policy is known, beside other looks, memoised per session for equal settings, under
`deadline_s`. If either function raises or is late, the verdict is *unsure* (promise 3).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal, Protocol

import msgspec

Mode = Literal["off", "on", "shadow"]


class Stage(IntEnum):
    """How much of the session a look needs to have seen."""

    CONNECT = 1
    HELO = 2
    MAIL = 3
    RCPT = 4
    MESSAGE = 5


class Action(StrEnum):
    """What a verdict asks for."""

    PASS = "pass"
    ALLOW = "allow"
    """Let it through whatever the bypassable filters say."""
    SCORE = "score"
    TAG = "tag"
    HOLD = "hold"
    """Take it, keep it in the quarantine."""
    REFUSE = "refuse"
    DEFER = "defer"
    UNSURE = "unsure"


class Setting(msgspec.Struct, frozen=True):
    """How the panel presents a field, as `extra` of `msgspec.Meta`."""

    label: str
    placeholder: str = ""
    dangerous: str = ""
    """Consequence to confirm before it is saved; "" when harmless."""


class FilterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every filter's settings: each field has a default, a description and a bound."""

    mode: Annotated[
        Mode,
        msgspec.Meta(description="Off, on, or shadow: judged and recorded, never acted on.", extra={"label": "Mode"}),
    ] = "off"


class BadSetting(ValueError):
    """A value that no bound can describe, raised by `__post_init__` of settings; `field` is "patterns[2]"."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


@dataclass(frozen=True, slots=True)
class Verdict:
    """One filter's answer for one domain.

    `reason` is one plain sentence for the customer; `text` is what the peer may hear (generic);
    `evidence` holds the facts that decided, JSON types only.
    """

    action: Action
    reason: str = ""
    score: float = 0.0
    code: int = 550
    enhanced: str = "5.7.1"
    text: str = "Message refused by the recipient's policy"
    evidence: Mapping[str, Any] = field(default_factory=dict)


PASS = Verdict(Action.PASS)


def refuse(
    reason: str,
    *,
    text: str = "Message refused by the recipient's policy",
    code: int = 550,
    enhanced: str = "5.7.1",
    **evidence: Any,
) -> Verdict:
    """A permanent refusal; the copy is kept."""
    return Verdict(Action.REFUSE, reason, code=code, enhanced=enhanced, text=text, evidence=evidence)


def defer(
    reason: str, *, text: str = "Try again later", code: int = 451, enhanced: str = "4.7.1", **evidence: Any
) -> Verdict:
    """A temporary refusal; the sender comes again."""
    return Verdict(Action.DEFER, reason, code=code, enhanced=enhanced, text=text, evidence=evidence)


def hold(reason: str, **evidence: Any) -> Verdict:
    """Accepted and kept in the quarantine."""
    return Verdict(Action.HOLD, reason, evidence=evidence)


def tag(reason: str, **evidence: Any) -> Verdict:
    """Delivered with the domain's tag."""
    return Verdict(Action.TAG, reason, evidence=evidence)


def score(points: float, reason: str, **evidence: Any) -> Verdict:
    """Points towards the domain's thresholds."""
    return Verdict(Action.SCORE, reason, score=points, evidence=evidence)


def allow(reason: str, **evidence: Any) -> Verdict:
    """Let it through past the bypassable filters."""
    return Verdict(Action.ALLOW, reason, evidence=evidence)


class Part(msgspec.Struct, frozen=True):
    """One leaf of the MIME tree, decoded for looking at, never for delivering."""

    content_type: str
    filename: str = ""
    size_bytes: int = 0
    sha256: str = ""
    text: str = ""
    """Decoded text of text/* parts, capped; HTML as HTML."""
    magic: str = ""
    """Kind told by the first bytes: "zip", "pe", "pdf", "ole" … or ""."""
    members: tuple[str, ...] = ()
    """Names inside an archive, nested ones as "outer.zip/inner.exe"; capped."""


class Message(msgspec.Struct, frozen=True):
    """The message, parsed once for all filters in a process that can be killed.

    `unchecked` is "" or why the parser gave up; then `parts` is empty and that never means clean.
    """

    headers: tuple[tuple[str, str], ...]
    """Field name and unfolded, RFC 2047-decoded value, in order."""
    parts: tuple[Part, ...]
    size_bytes: int
    unchecked: str = ""
    defects: tuple[str, ...] = ()

    def header(self, name: str) -> tuple[str, ...]:
        """Every value of one field, in order; names compare without case."""
        wanted = name.lower()
        return tuple(value for field_name, value in self.headers if field_name.lower() == wanted)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the session has seen when a look starts; later stages' fields are empty until then."""

    id: str
    node: str
    client_ip: str
    client_port: int
    hostname: str
    """Our own name."""
    talked_early: bool = False
    helo: str = ""
    esmtp: bool = False
    tls: bool = False
    sender: str = ""
    """Envelope sender, "" for the null sender."""
    declared_size: int = 0
    recipient: str = ""
    domain: str = ""
    message: Message | None = None
    raw: bytes = b""
    """The message as received, CRLF line ends."""


class Resolver(Protocol):
    """The one resolver of a node: cache, negative cache, deadline, breaker.

    Each returns () for a name or type that does not exist and raises `DnsUnsure` when nobody knows.
    """

    async def a(self, name: str) -> tuple[str, ...]:
        """IPv4 addresses of a name."""

    async def aaaa(self, name: str) -> tuple[str, ...]:
        """IPv6 addresses of a name."""

    async def txt(self, name: str) -> tuple[bytes, ...]:
        """TXT strings, each joined from its pieces."""

    async def mx(self, name: str) -> tuple[tuple[int, str], ...]:
        """(preference, host) pairs, sorted."""

    async def ptr(self, address: str) -> tuple[str, ...]:
        """Names of an address, without the final dot."""


class DnsUnsure(Exception):
    """A look-up that got no answer in time or an answer of failure; never the same as "does not exist"."""


class Lists(Protocol):
    """The allow and deny entries and the listed recipients that apply to one recipient."""

    def entry(self, layer: Literal["system", "account", "domain"], key: str) -> "ListEntry | None":
        """The unexpired entry with exactly this key at this layer. Raises KeyError when its shard is not here yet."""

    def is_empty(self, layer: Literal["system", "account", "domain"]) -> bool:
        """Whether this layer has no entries at all, as most have."""

    def listed(self, local_part: str) -> bool | None:
        """Whether the recipient exists; None when the domain takes any. Raises KeyError as above."""


class ListEntry(Protocol):
    """An allow or deny entry as filters see it (`syncd.layers.Entry`)."""

    id: str
    kind: Literal["allow", "deny"]
    match: str
    authenticated_only: bool


@dataclass(frozen=True, slots=True)
class Tools:
    """What a look may use besides what was seen."""

    resolver: Resolver
    lists: Lists
    now: float
    facts: Callable[[str], Awaitable[Any]]
    """Facts of another filter in this session by name, looked at with this domain's settings; None if it failed."""


@dataclass(frozen=True, slots=True)
class Section:
    """A group of a domain's settings that is not a filter: thresholds, delivery, retention."""

    name: str
    question: str
    settings: type[msgspec.Struct]


@dataclass(frozen=True, slots=True)
class Filter(Section):
    """One declared filter; see the module's text."""

    stage: Stage = Stage.MESSAGE
    look: Callable[[Seen, Any, Tools], Awaitable[Any]] = field(kw_only=True)
    judge: Callable[[Any, Any], Verdict] = field(kw_only=True)
    deadline_s: float = 5.0
    when_unsure: Literal["pass", "defer"] = "pass"
    bypassable: bool = True
    """Whether an allow entry silences it; a virus or a loop is never let through by a list."""
    early: bool = False
    """Spoken at RCPT without a copy whatever the domain chooses (unknown recipients, loops of protocol abuse)."""
    per_recipient: bool = False
    """Whether its facts depend on the recipient, not only on the domain's settings."""
    raw_only: bool = False
    """Whether it reads `Seen.raw` alone, so that no message is parsed for its sake."""
