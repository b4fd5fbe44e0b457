"""What a spool record says of a mail: the envelope, every verdict, and each recipient's outcome."""

from enum import StrEnum
from typing import Any

import msgspec


class Kind(StrEnum):
    """Why a record travels."""

    KEPT = "kept"
    """Refused or held mail with its body, for the quarantine."""
    LATER = "later"
    """Accepted mail with its body, to be delivered when its next hop answers."""
    EVENT = "event"
    """What became of a transaction; no body, and no reply waits for it."""


class Outcome(StrEnum):
    """The one final outcome of a recipient that was answered 250 at RCPT (promise 1)."""

    DELIVERED = "delivered"
    KEPT = "kept"
    LATER = "later"
    REFUSED = "refused"
    DEFERRED = "deferred"
    ABANDONED = "abandoned"


class Judgement(msgspec.Struct, frozen=True, omit_defaults=True):
    """One filter's verdict with its evidence, as the customer is shown it."""

    filter: str
    stage: str
    mode: str
    action: str
    score: float = 0.0
    reason: str = ""
    """One plain sentence for the customer."""
    evidence: dict[str, Any] = {}
    ms: float = 0.0
    acted: bool = False
    """Whether this verdict decided the outcome."""


class RecipientResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one recipient."""

    n: int
    """Position of the recipient in the transaction, from 0; with the record's id it names the quarantine item."""
    address: str
    domain: str
    account: str
    outcome: Outcome
    reason: str = ""
    """Class of the outcome: a filter's name, "score", "next_hop" or "unknown_user"; "" when delivered."""
    text: str = ""
    """One plain sentence for the customer."""
    score: float = 0.0
    reply: str = ""
    """What the sender was told for this recipient, or what the next hop said."""
    next_hop: str = ""
    judgements: int = -1
    """Index into `Record.judgements`; -1 when nothing was judged."""
    generation: int = 0
    revision: int = 0
    policy: str = ""
    """Hash of the policy that judged."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """Header of a spool record; the raw message travels behind it, byte for byte as received.

    `id` is the transaction's ULID: the KEPT, LATER and EVENT records of one transaction share it.
    """

    id: str
    kind: Kind
    node: str
    received_at: float
    client_ip: str
    client_port: int = 0
    helo: str = ""
    tls: str = ""
    sender: str = ""
    """Envelope sender, "" for the null sender."""
    smtputf8: bool = False
    eight_bit: bool = False
    recipients: tuple[RecipientResult, ...] = ()
    judgements: tuple[tuple[Judgement, ...], ...] = ()
    subject: str = ""
    header_from: str = ""
    message_id: str = ""
    attachments: tuple[str, ...] = ()
    body_bytes: int = 0
    body_sha256: str = ""
    reply: str = ""
    """The reply after the final dot, as spoken; "" in a record that precedes it."""
    trace: str = ""
    """Our trace header fields (Received, Authentication-Results …) to put before the body on delivery."""
    dialogue: tuple[tuple[float, str, str], ...] = ()
    """(seconds since connect, "C" or "S", line) of the session, bounded, escaped."""
