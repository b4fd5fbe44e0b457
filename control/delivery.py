"""Delivers one mail out of a pack to its recipient's own server: what is sent, to whom, and what the answer means.

The bytes are those that were received, behind our trace fields and a signed line that says who let them through. The
deadlines are longer than in a session: nobody waits, and each dialogue that is cut leaves a doubt.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from syncd import nexthop
from syncd.layers import NextHop
from syncd.nexthop import Answer, Timeouts
from syncd.spool.record import Record

TIMEOUTS = Timeouts(connect_s=20, command_s=60, dot_s=300, total_s=420)
"""RFC 5321 section 4.5.3.2 asks for 5 to 10 minutes each."""
RELEASED = "X-Mxfleet-Released"
End = Literal["done", "failed", "unknown", "later"]
OnDot = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ended:
    """How one try ended: `later` means that the server may take it another time; `outcome` in words."""

    end: End
    outcome: str
    reply: str = ""
    hop: str = ""
    unknown_user: bool = False
    down: bool = False
    """Whether no server could be spoken to."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail for one recipient."""

    sender: str
    recipient: str
    message: Sequence[bytes]
    smtputf8: bool = False
    eight_bit: bool = False


def letter(sender: str, recipient: str, raw: bytes, record: Record | None, *head: bytes) -> Letter:
    """The mail as it is sent; `head` goes before it, and the trace fields before that."""
    trace = record.trace.encode() if record else b""
    return Letter(
        sender,
        recipient,
        (trace, *head, raw),
        smtputf8=not (sender + recipient).isascii() or bool(record and record.smtputf8),
        eight_bit=not raw.isascii(),
    )


def released_line(secret: bytes, item_id: str, raw: bytes) -> bytes:
    """The header field of a released mail, with a proof that it is this mail that was released here."""
    proof = hmac.new(secret, f"released\n{item_id}\n".encode() + hashlib.sha256(raw).digest(), hashlib.sha256)
    return f"{RELEASED}: {item_id}; sha256={proof.hexdigest()}\r\n".encode()


def hostname(panel_url: str) -> str:
    """Our name in EHLO: the panel's, or its address as a literal (RFC 5321 section 4.1.3)."""
    name = urlsplit(panel_url).hostname or "localhost"
    try:
        version = ipaddress.ip_address(name).version
    except ValueError:
        return name
    return f"[IPv6:{name}]" if version == 6 else f"[{name}]"


async def hops(pool: Any, domain_number: int, account_id: str) -> tuple[NextHop, ...]:
    """The servers that take this domain's mail now; () when the account does not serve it here any more."""
    found = await pool.fetchval(
        "select next_hops::text from domains where number = $1 and account_id = $2", domain_number, account_id
    )
    return msgspec.json.decode(found, type=tuple[NextHop, ...]) if found else ()


async def hops_of(pool: Any, domain: str, account_id: str) -> tuple[NextHop, ...]:
    """The same by the domain's name."""
    number = await pool.fetchval("select number from domains where name = $1", domain)
    return await hops(pool, number, account_id) if number is not None else ()


async def deliver(servers: Sequence[NextHop], mail: Letter, name: str, on_dot: OnDot | None = None) -> Ended:
    """One try. `on_dot` is awaited before the first byte of the mail leaves; what it raises comes through."""
    try:
        answers = await nexthop.deliver(
            servers,
            mail.sender,
            [mail.recipient],
            mail.message,
            hostname=name,
            timeouts=TIMEOUTS,
            smtputf8=mail.smtputf8,
            eight_bit=mail.eight_bit,
            on_dot=on_dot,
        )
    except ValueError as error:
        return Ended("failed", f"this address cannot be written to: {error}")
    return ended(answers[mail.recipient])


def ended(answer: Answer) -> Ended:
    """What a server's answer means for the mail, in words. Pure."""
    said = f"{answer.code} {answer.enhanced} {answer.text}".strip()
    unknown_user = answer.enhanced == "5.1.1"
    if answer.taken:
        return Ended("done", f"delivered: {said} from {answer.hop}", said, answer.hop)
    if answer.unknown:
        words = f"the connection to {answer.hop} broke after the mail was sent, before it answered: {answer.text}"
        return Ended("unknown", words, said, answer.hop)
    if not answer.answered:
        words = f"{answer.hop} does not answer: {answer.text}"
        return Ended("later", words, said, answer.hop, down=answer.down)
    end: End = "failed" if answer.code >= 500 else "later"
    return Ended(end, f"{answer.hop} said: {said}", said, answer.hop, unknown_user, answer.down)
