"""One mail to one of a domain's next hops, and what it said for each recipient.

Hops are tried by preference, equal ones in random order. The next one is tried only while nothing
was handed over: once the final dot may have left us, trying elsewhere could deliver twice. This is
the only file that knows aiosmtplib.
"""

import random
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from time import monotonic
from typing import Literal

import aiosmtplib

from syncd.layers import NextHop, TlsMode

Phase = Literal["connect", "mail", "rcpt", "data", "dot"]

TEXT_CHARS = 300
"""What is kept of a reply's text; RFC 5321 section 4.5.3.1.5 allows a line of 512 octets."""

_ENHANCED = re.compile(r"^([245]\.\d{1,3}\.\d{1,3})(?:\s+|$)")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait in each phase, and for the whole of it.

    Far below RFC 5321 section 4.5.3.2 (5 to 10 minutes): a sender waits for us meanwhile, and comes again.
    """

    connect_s: float = 10.0
    command_s: float = 20.0
    dot_s: float = 80.0
    total_s: float = 105.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one recipient: the next hop's reply, or a 4xx of our own where it gave none.

    `text` is one clean line without the codes. `phase` is where the dialogue stood.
    """

    code: int
    enhanced: str
    text: str
    hop: str
    phase: Phase
    unknown: bool = False
    """The dialogue broke after the final dot: the next hop may have taken the mail."""
    answered: bool = True
    """Whether the code is the next hop's own; False when it said nothing that could be understood."""

    @property
    def taken(self) -> bool:
        """Whether the next hop took responsibility."""
        return 200 <= self.code < 300

    @property
    def down(self) -> bool:
        """Whether the hop could not be spoken to at all; a server that says no is not down."""
        return not self.unknown and (not self.answered or self.phase == "connect")


@dataclass(frozen=True, slots=True)
class _Mail:
    sender: str
    recipients: tuple[str, ...]
    message: Sequence[bytes]
    hostname: str
    smtputf8: bool
    eight_bit: bool
    on_dot: Callable[[], Awaitable[None]] | None


class _NotPossible(Exception):
    """The hop lacks what this mail needs; carries the code, enhanced code and text to answer with."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.code, self.enhanced, self.text = code, enhanced, text


async def deliver(
    hops: Sequence[NextHop],
    sender: str,
    recipients: Sequence[str],
    message: Sequence[bytes],
    *,
    hostname: str,
    timeouts: Timeouts = Timeouts(),
    smtputf8: bool = False,
    eight_bit: bool = False,
    on_dot: Callable[[], Awaitable[None]] | None = None,
) -> dict[str, Answer]:
    """Hand one mail to the first hop that will speak; the answer for each recipient.

    `message` is the mail in chunks with CRLF line ends, not dot-stuffed; it is not joined, and
    copied only where a line begins with a dot. `sender` is "" for the null sender. `on_dot` is
    awaited after DATA was accepted and before the first byte of the message leaves. Raises
    ValueError for an address with control characters; cancelling closes the connection.
    """
    if not hops:
        raise ValueError("a mail needs at least one next hop")
    mail = _Mail(sender, tuple(dict.fromkeys(recipients)), message, hostname, smtputf8, eight_bit, on_dot)
    until = monotonic() + timeouts.total_s
    answers: dict[str, Answer] = {}
    for hop in in_order(hops):
        answers = await _one_hop(hop, mail, timeouts, until)
        if not _another_may_take(answers) or monotonic() >= until:
            break
    return answers


def in_order(hops: Sequence[NextHop]) -> list[NextHop]:
    """Hops as they are tried: by preference, equal ones shuffled (RFC 5321 section 5.1)."""
    ordered: list[NextHop] = []
    for _, equal in groupby(sorted(hops, key=lambda hop: hop.preference), key=lambda hop: hop.preference):
        tied = list(equal)
        random.shuffle(tied)
        ordered += tied
    return ordered


def clean(text: str) -> str:
    """One printable line of what a server said; no byte of it can start a line of ours."""
    return _UNPRINTABLE.sub(" ", text).strip()[:TEXT_CHARS]


def _another_may_take(answers: dict[str, Answer]) -> bool:
    """Only when no recipient was taken, refused for good, or handed over with an unknown end."""
    return all(_worth_another_hop(answer) for answer in answers.values())


def _worth_another_hop(answer: Answer) -> bool:
    if answer.unknown or answer.phase == "dot" or answer.taken:
        return False
    return answer.code < 500 or answer.phase == "connect"


async def _one_hop(hop: NextHop, mail: _Mail, timeouts: Timeouts, until: float) -> dict[str, Answer]:
    dialogue = _Dialogue(hop, mail, timeouts, until, tls=True)
    answers = await dialogue.run()
    if dialogue.tls_broke and hop.tls == "opportunistic":
        answers = await _Dialogue(hop, mail, timeouts, until, tls=False).run()
    return answers


class _Dialogue:
    """One connection to one hop."""

    def __init__(self, hop: NextHop, mail: _Mail, timeouts: Timeouts, until: float, *, tls: bool) -> None:
        self._hop, self._mail, self._timeouts, self._until, self._tls = hop, mail, timeouts, until, tls
        self._phase: Phase = "connect"
        self._client = aiosmtplib.SMTP(
            hostname=hop.host, port=hop.port, local_hostname=mail.hostname, start_tls=False, use_tls=False
        )
        self.tls_broke = False

    async def run(self) -> dict[str, Answer]:
        """The answer for every recipient; no exception of the library gets past here."""
        try:
            await self._greet()
            return await self._hand_over()
        except _NotPossible as error:
            answer = self._answer(error.code, f"{error.enhanced} {error.text}")
        except aiosmtplib.SMTPResponseException as error:
            answer = self._answer(error.code, error.message)
        except (aiosmtplib.SMTPException, OSError) as error:
            answer = self._no_answer(error)
        finally:
            self._client.close()
        return dict.fromkeys(self._mail.recipients, answer)

    async def _greet(self) -> None:
        await self._client.connect(timeout=self._left(self._timeouts.connect_s))
        await self._hello()
        if not self._tls:
            return
        if self._client.supports_extension("starttls"):
            await self._start_tls()
            await self._hello()
        elif self._hop.tls != "opportunistic":
            raise _NotPossible(451, "4.7.5", "The next hop does not offer TLS, which is required")

    async def _hello(self) -> None:
        try:
            await self._client.ehlo(timeout=self._left(self._timeouts.command_s))
        except aiosmtplib.SMTPHeloError:
            await self._client.helo(timeout=self._left(self._timeouts.command_s))

    async def _start_tls(self) -> None:
        try:
            await self._client.starttls(
                tls_context=_tls_context(self._hop.tls), timeout=self._left(self._timeouts.command_s)
            )
        except (aiosmtplib.SMTPException, OSError) as error:
            self.tls_broke = True
            raise _NotPossible(451, "4.7.5", f"TLS with the next hop failed: {error}") from error

    async def _hand_over(self) -> dict[str, Answer]:
        self._phase = "mail"
        await self._command(b"MAIL", b"FROM:<" + self._mail.sender.encode() + b">", *self._options())
        self._phase = "rcpt"
        answers = {recipient: await self._recipient(recipient) for recipient in self._mail.recipients}
        if any(answer.taken for answer in answers.values()):
            await self._data(answers)
        return answers

    def _options(self) -> list[bytes]:
        options = []
        if self._client.supports_extension("size"):
            options.append(b"SIZE=%d" % sum(len(chunk) for chunk in self._mail.message))
        if self._mail.smtputf8:
            if not self._client.supports_extension("smtputf8"):
                raise _NotPossible(550, "5.6.7", "The recipient's server does not take internationalised mail")
            options.append(b"SMTPUTF8")
        # A hop without 8BITMIME gets the bytes as they are: RFC 6152 section 3 wants them converted or
        # bounced, but converting breaks signatures, and every server in use takes 8-bit data.
        if self._mail.eight_bit and self._client.supports_extension("8bitmime"):
            options.append(b"BODY=8BITMIME")
        return options

    async def _recipient(self, recipient: str) -> Answer:
        reply = await self._execute(b"RCPT", b"TO:<" + recipient.encode() + b">")
        return self._answer(reply.code, reply.message)

    async def _data(self, answers: dict[str, Answer]) -> None:
        """Send the message and put its answer in place of each accepted recipient's."""
        try:
            self._phase = "data"
            reply = await self._execute(b"DATA")
            if reply.code == 354:
                answer = await self._body()
            elif reply.code < 400:
                answer = self._no_answer(ValueError(f"a reply that makes no sense: {reply.code}"))
            else:
                answer = self._answer(reply.code, reply.message)
        except aiosmtplib.SMTPResponseException as error:
            answer = self._answer(error.code, error.message)
        except (aiosmtplib.SMTPException, OSError) as error:
            answer = self._no_answer(error)
        answers.update({recipient: answer for recipient, was in answers.items() if was.taken})

    async def _body(self) -> Answer:
        if self._mail.on_dot:
            await self._mail.on_dot()
        protocol = self._client.protocol
        if protocol is None:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")
        self._phase = "dot"
        for chunk in stuffed(self._mail.message):
            protocol.write(chunk)
        # No await between the writes and this: the library drops bytes that come while it expects none.
        reply = await protocol.read_response(timeout=self._left(self._timeouts.dot_s))
        answer = self._answer(reply.code, reply.message)
        if self._client.is_connected:
            protocol.write(b"QUIT\r\n")
        return answer

    async def _command(self, *words: bytes) -> None:
        reply = await self._execute(*words)
        if not 200 <= reply.code < 300:
            raise aiosmtplib.SMTPResponseException(reply.code, reply.message)

    async def _execute(self, *words: bytes) -> aiosmtplib.SMTPResponse:
        return await self._client.execute_command(*words, timeout=self._left(self._timeouts.command_s))

    def _left(self, phase_s: float) -> float:
        return max(0.05, min(phase_s, self._until - monotonic()))

    @property
    def _name(self) -> str:
        return f"{self._hop.host}:{self._hop.port}"

    def _answer(self, code: int, text: str) -> Answer:
        text = clean(text)
        if code // 100 not in (2, 4, 5) or code > 599:
            return self._no_answer(ValueError(f"a reply that makes no sense: {code} {text}"))
        enhanced = _ENHANCED.match(text)
        if enhanced and enhanced[1][0] == str(code)[0]:
            return Answer(code, enhanced[1], text[enhanced.end() :], self._name, self._phase)
        return Answer(code, f"{code // 100}.0.0", text, self._name, self._phase)

    def _no_answer(self, error: Exception) -> Answer:
        enhanced = "4.4.1" if self._phase == "connect" else "4.4.2"
        unknown = self._phase == "dot"
        return Answer(451, enhanced, clean(str(error)), self._name, self._phase, unknown=unknown, answered=False)


def stuffed(chunks: Sequence[bytes]) -> list[bytes]:
    """The chunks as they go over the wire: leading dots doubled (RFC 5321 section 4.5.2), the final dot appended."""
    sent: list[bytes] = []
    before = b"\r\n"
    for chunk in chunks:
        if not chunk:
            continue
        if chunk[:1] == b"." and before == b"\r\n":
            sent.append(b".")
        elif chunk[:2] == b"\n." and before[-1:] == b"\r":
            chunk = b"\n." + chunk[1:]
        sent.append(chunk.replace(b"\r\n.", b"\r\n..") if b"\r\n." in chunk else chunk)
        before = (before + chunk[-2:])[-2:]
    sent.append(b".\r\n" if before == b"\r\n" else b"\r\n.\r\n")
    return sent


@lru_cache(maxsize=3)
def _tls_context(mode: TlsMode) -> ssl.SSLContext:
    """Opportunistic and required TLS do not look at the certificate (RFC 7435); verified TLS does."""
    if mode == "verified":
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
