"""The state of one connection and of the mail transaction open in it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from aiosmtpd.smtp import Envelope, Session
from ulid import ULID

from mx.address import Mailbox
from mx.filter import Message, Seen
from mx.judge import Decision
from mx.replies import Reply
from mx.services import KnownPolicy
from syncd.nexthop import Answer, clean
from syncd.spool.record import Outcome

DIALOGUE_LINES = 80
"""How many of the latest lines a record shows of a session's opening and of its own transaction, each."""


class Connection(Session):
    """What lasts for one connection; aiosmtpd's `session` with what we need to know besides."""

    def __init__(self, loop: object) -> None:
        super().__init__(loop)  # type: ignore[arg-type]
        self.client_ip = "0.0.0.0"
        self.client_port = 0
        self.began = time.monotonic()
        self.talked_early = False
        self.tls = ""
        self.errors = 0
        self.commands = 0
        """Commands since the last mail."""
        self._opening: list[Line] = []
        self._dialogue: list[Line] = self._opening

    def heard(self, line: bytes) -> None:
        """Note a line of the client."""
        self._note("C", line)

    def said(self, lines: bytes) -> None:
        """Note what we said: whole lines with their CRLF."""
        self._note("S", lines)

    def turn_page(self) -> None:
        """The line noted last begins a transaction; what was said in an earlier one is not told of this one."""
        self._dialogue = [self._dialogue.pop()]

    def dialogue(self) -> tuple[tuple[float, str, str], ...]:
        """The opening of the session and its latest lines, printable and bounded, for a record."""
        later = self._dialogue if self._dialogue is not self._opening else []
        return (*_shown(self._opening), *_shown(later))

    def _note(self, who: str, line: bytes) -> None:
        if len(self._dialogue) == 2 * DIALOGUE_LINES:
            del self._dialogue[:DIALOGUE_LINES]
        self._dialogue.append((time.monotonic() - self.began, who, line))


Line = tuple[float, str, bytes]


def _shown(noted: list[Line]) -> list[tuple[float, str, str]]:
    return [
        (round(at, 3), who, _one_line(line))
        for at, who, lines in noted[-DIALOGUE_LINES:]
        for line in (lines.removesuffix(b"\r\n").split(b"\r\n") if who == "S" else (lines,))
    ][-DIALOGUE_LINES:]


def _one_line(line: bytes) -> str:
    text = line.decode("latin-1")
    return text if len(line) < 200 and text.isascii() and text.isprintable() else clean(text)


@dataclass(slots=True)
class Addressee:
    """One recipient that was answered 250, and what becomes of it."""

    n: int
    mailbox: Mailbox
    policy: KnownPolicy
    decision: Decision | None = None
    answer: Answer | None = None
    outcome: Outcome | None = None
    """Set where it happens, once."""
    cause: str = ""
    """Why it ended without having been judged: the message itself could not be taken, or time was up."""
    cause_text: str = ""

    @property
    def address(self) -> str:
        """As the sender wrote it, the domain in A-label form."""
        return self.mailbox.address


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """One recipient that was refused at RCPT: an event, no copy, and not in the ledger."""

    address: str
    domain: str
    reply: Reply
    reason: str
    policy: KnownPolicy | None = None
    """None when the domain is not ours, or not known."""


@dataclass(slots=True)
class Times:
    """When a transaction reached its stages."""

    began: float = 0.0
    """Unix time of MAIL."""
    dot: float = 0.0
    """Monotonic time of the final dot."""


def _nothing_held() -> None:
    """There is no message yet."""


class Transaction(Envelope):
    """One mail; aiosmtpd's `envelope` with our id, typed recipients and their outcomes."""

    def __init__(self) -> None:
        super().__init__()
        self.id = ""
        self.times = Times()
        self.is_open = False
        self.is_taken = False
        """Whether the accept path has it; from then on a lost connection changes nothing."""
        self.sender = Mailbox("", "")
        self.eight_bit = False
        self.declared_size = 0
        self.addressees: list[Addressee] = []
        self.turned_away: list[TurnedAway] = []
        self.policies: dict[str, KnownPolicy] = {}
        """By domain: all recipients of a domain in one mail are judged by one revision."""
        self.raw = b""
        self.let_go: Callable[[], None] = _nothing_held
        """Gives back what the message holds of the worker's memory; again is harmless."""

    def begin(self, sender: Mailbox) -> None:
        """MAIL was accepted: from here on the mail has its id and its time."""
        self.id = str(ULID())
        self.times.began = time.time()
        self.is_open = True
        self.sender = sender
        self.mail_from = sender.address


def seen(node: str, hostname: str, connection: Connection, txn: Transaction, message: Message | None = None) -> Seen:
    """The facts of the session that do not depend on the recipient; `message` once it is there and parsed."""
    return Seen(
        id=txn.id,
        node=node,
        client_ip=connection.client_ip,
        client_port=connection.client_port,
        hostname=hostname,
        talked_early=connection.talked_early,
        helo=connection.host_name or "",
        esmtp=connection.extended_smtp,
        tls=bool(connection.tls),
        sender=txn.sender.address,
        declared_size=txn.declared_size,
        message=message,
        raw=txn.raw,
    )
