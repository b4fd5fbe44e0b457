"""The dialogue that hands one mail over, without I/O: MAIL, RCPT, DATA, message, by a table of transitions.

Where the hop offers PIPELINING everything up to DATA is said at once (RFC 2920), else step by step; what
a reply means is the same:

    awaited for   2xx          3xx            4xx, 5xx
    RSET          go on        –              –
    MAIL          go on        –              all recipients refused
    RCPT          accepted     –              this one refused
    DATA          –            354: send      the accepted ones refused
    MESSAGE       –            –              the same; the hop spoke before the dot, so nothing counts
    DOT           taken        –              the accepted ones refused
    EMPTY_DOT     end          –              end

A dash makes no sense: replies are out of step, and the dialogue is over as if the connection were lost. 421
ends it too (RFC 5321 section 3.8). The message is sent only if MAIL and a recipient were accepted. A hop that says 354
without that gets a lone dot (RFC 2920 section 3.1), but nothing at all when it took a recipient without MAIL.
"""

from collections.abc import Callable, Iterable
from enum import Enum, auto

from syncd.nexthop.answer import Answer, Phase, Refused, no_answer, replied
from syncd.nexthop.mail import Mail
from syncd.nexthop.opening import Offers
from syncd.nexthop.reply import Reply


class Said(Enum):
    """What the awaited reply answers."""

    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    MESSAGE = auto()
    """The message is leaving, its final dot is not."""
    DOT = auto()
    EMPTY_DOT = auto()


class Turn(Enum):
    """Whose turn it is."""

    HEAR = auto()
    """The hop's: a reply is awaited."""
    SEND = auto()
    """Ours: the message is to be sent."""
    END = auto()
    """Nobody's: every recipient has its answer."""


class After(Enum):
    """What to do with the connection at the end."""

    KEEP = auto()
    QUIT = auto()
    ABORT = auto()
    """Without another byte: what the hop has of the message must not end as a message."""


_PHASE: dict[Said, Phase] = {
    Said.RSET: "mail",
    Said.MAIL: "mail",
    Said.RCPT: "rcpt",
    Said.DATA: "data",
    Said.MESSAGE: "dot",
    Said.DOT: "dot",
    Said.EMPTY_DOT: "data",
}


class Transaction:
    """One mail over one open connection. `reset` says that the mail before it left the hop inside a transaction."""

    def __init__(self, mail: Mail, offers: Offers, hop: str, *, pipelined: bool, reset: bool = False) -> None:
        self._mail, self._offers, self._hop = mail, offers, hop
        self._pipelined = pipelined and offers.pipelining
        self._script: list[tuple[Said, bytes, str]] = []
        self._n = 0
        self._accepted: list[str] = []
        self._mail_refused = False
        self._broke = self._timed_out = self._closing = False
        self.said = Said.RSET if reset else Said.MAIL
        self.turn = Turn.HEAR
        self.after = After.KEEP
        self.leaves_open = reset
        """Whether the next mail over this connection has to begin with RSET."""
        self.answers: dict[str, Answer] = {}

    @property
    def was_never_heard(self) -> bool:
        """Whether the hop closed the connection before it answered MAIL; if it was kept open, it was dead already."""
        return (self._broke or self._closing) and self.said in (Said.RSET, Said.MAIL)

    @property
    def fell_out_of_step(self) -> bool:
        """Whether the dialogue broke while it was pipelined, and nothing of the message had left."""
        return self._pipelined and self._broke

    @property
    def stalled_pipelined(self) -> bool:
        """Whether a reply to a pipelined command did not come in time."""
        return self._pipelined and self._timed_out

    def begin(self) -> bytes:
        """What to say first; nothing, at the end of the turn, when the hop lacks what this mail needs."""
        lacking = _lacking(self._mail, self._offers)
        if lacking:
            self._answer(self._mail.recipients, lacking.answer(self._hop, "mail"))
            return self._end(After.KEEP)
        self._script = self._commands()
        self.leaves_open = True
        return b"".join(line for _, line, _ in self._script) if self._pipelined else self._script[0][1]

    def heard(self, reply: Reply) -> bytes:
        """What to say next to this reply; often nothing."""
        if reply.code == 421:
            self._closing = True
            self._answer(self._concerned(), replied(reply, self._hop, _PHASE[self.said]))
            return self._end(After.ABORT)
        act = _TABLE.get((self.said, reply.kind))
        if act is None or (reply.kind == 3 and reply.code != 354):
            # A hop that says yes before the dot believes that it has something: then nobody knows.
            unknown = self.said is Said.MESSAGE and reply.kind == 2
            self.lost(f"a reply that makes no sense: {reply.code}", unknown=unknown)
            return b""
        return act(self, reply)

    def sending(self) -> None:
        """The first byte of the message is about to leave."""
        self.said = Said.MESSAGE

    def sent(self) -> None:
        """The final dot was handed to the connection."""
        self.said, self.turn = Said.DOT, Turn.HEAR

    def lost(self, why: str, *, timed_out: bool = False, unknown: bool = False) -> None:
        """The connection is of no use any more; those who have no final answer get one of ours."""
        if self.turn is Turn.HEAR and self.said not in (Said.DOT, Said.EMPTY_DOT):
            self._broke, self._timed_out = not timed_out, timed_out
        answer = no_answer(why, self._hop, _PHASE[self.said], unknown=unknown or self.said is Said.DOT)
        self._answer(self._concerned(), answer)
        self._end(After.ABORT)

    def _concerned(self) -> Iterable[str]:
        """Whose answer is open: up to the last RCPT everybody's, since another hop may be tried for all."""
        if self._mail_refused:
            return ()
        return self._mail.recipients if self.said in (Said.RSET, Said.MAIL, Said.RCPT) else self._accepted

    def _commands(self) -> list[tuple[Said, bytes, str]]:
        said = [(Said.RSET, b"RSET\r\n", "")] if self.said is Said.RSET else []
        said.append(
            (Said.MAIL, b"MAIL FROM:<%b>%b\r\n" % (self._mail.sender, _parameters(self._mail, self._offers)), "")
        )
        said += [(Said.RCPT, b"RCPT TO:<%b>\r\n" % path, to) for to, path in self._mail.recipients.items()]
        said.append((Said.DATA, b"DATA\r\n", ""))
        return said

    def _go_on(self, _: Reply | None) -> bytes:
        self._n += 1
        self.said, line, _to = self._script[self._n]
        if self._pipelined:
            return b""
        if self._mail_refused or (self.said is Said.DATA and not self._accepted):
            return self._end(After.KEEP)
        return line

    def _refuse_all(self, reply: Reply) -> bytes:
        self._mail_refused = True
        self._answer(self._mail.recipients, replied(reply, self._hop, "mail"))
        return self._go_on(None)

    def _accept(self, _: Reply) -> bytes:
        self._accepted.append(self._script[self._n][2])
        return self._go_on(None)

    def _refuse_one(self, reply: Reply) -> bytes:
        if not self._mail_refused:
            self.answers[self._script[self._n][2]] = replied(reply, self._hop, "rcpt")
        return self._go_on(None)

    def _send(self, _: Reply) -> bytes:
        if not self._accepted:
            self.said = Said.EMPTY_DOT
            return b".\r\n"
        if self._mail_refused:
            return self._end(After.ABORT)
        self.turn = Turn.SEND
        return b""

    def _refuse_accepted(self, reply: Reply) -> bytes:
        if not self._mail_refused:
            self._answer(self._accepted, replied(reply, self._hop, _PHASE[self.said]))
        return self._end(After.ABORT if self.said is Said.MESSAGE else After.KEEP)

    def _answered(self, reply: Reply) -> bytes:
        self._answer(self._accepted, replied(reply, self._hop, "dot"))
        self.leaves_open = False
        return self._end(After.KEEP)

    def _quit(self, _: Reply) -> bytes:
        return self._end(After.QUIT)

    def _answer(self, recipients: Iterable[str], answer: Answer) -> None:
        for recipient in recipients:
            self.answers[recipient] = answer

    def _end(self, after: After) -> bytes:
        self.turn, self.after = Turn.END, after
        self.answers = {recipient: self.answers[recipient] for recipient in self._mail.recipients}
        return b""


_TABLE: dict[tuple[Said, int], Callable[[Transaction, Reply], bytes]] = {
    (Said.RSET, 2): Transaction._go_on,
    (Said.MAIL, 2): Transaction._go_on,
    (Said.MAIL, 4): Transaction._refuse_all,
    (Said.MAIL, 5): Transaction._refuse_all,
    (Said.RCPT, 2): Transaction._accept,
    (Said.RCPT, 4): Transaction._refuse_one,
    (Said.RCPT, 5): Transaction._refuse_one,
    (Said.DATA, 3): Transaction._send,
    (Said.DATA, 4): Transaction._refuse_accepted,
    (Said.DATA, 5): Transaction._refuse_accepted,
    (Said.MESSAGE, 4): Transaction._refuse_accepted,
    (Said.MESSAGE, 5): Transaction._refuse_accepted,
    (Said.DOT, 2): Transaction._answered,
    (Said.DOT, 4): Transaction._answered,
    (Said.DOT, 5): Transaction._answered,
    (Said.EMPTY_DOT, 2): Transaction._quit,
    (Said.EMPTY_DOT, 4): Transaction._quit,
    (Said.EMPTY_DOT, 5): Transaction._quit,
}


def _lacking(mail: Mail, offers: Offers) -> Refused | None:
    if mail.smtputf8 and not offers.smtputf8:
        return Refused(550, "5.6.7", "The recipient's server does not take internationalised mail")
    if 0 < offers.size_bytes < mail.size_bytes:
        return Refused(552, "5.3.4", f"The recipient's server takes no more than {offers.size_bytes} bytes")
    return None


def _parameters(mail: Mail, offers: Offers) -> bytes:
    # A hop without 8BITMIME gets the bytes as they are: RFC 6152 section 3 wants them converted or
    # bounced, but converting breaks signatures, and every server in use takes 8-bit data.
    size = b" SIZE=%d" % mail.size_bytes if offers.size else b""
    smtputf8 = b" SMTPUTF8" if mail.smtputf8 else b""
    return size + smtputf8 + (b" BODY=8BITMIME" if mail.eight_bit and offers.eight_bit else b"")
