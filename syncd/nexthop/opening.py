"""How a connection is opened, without I/O: greeting, EHLO, STARTTLS, EHLO again, by a table of transitions.

    stage       2xx                      4xx, 5xx
    GREETING    say EHLO                 refused
    EHLO        take the offers          say HELO (RFC 5321 section 3.2)
    HELO        no offers                refused
    STARTTLS    HANDSHAKE                without TLS, where that is allowed

Whatever the table lacks makes no sense and ends the connection; 421 refuses at every stage
(RFC 5321 section 3.8). After EHLO or HELO comes STARTTLS where TLS is wanted and offered, else READY.
"""

from enum import Enum, auto

import msgspec

from syncd.layers import TlsMode
from syncd.nexthop.answer import Refused, refusal
from syncd.nexthop.reply import Garbled, Reply


class Stage(Enum):
    """What the opening waits for."""

    GREETING = auto()
    EHLO = auto()
    HELO = auto()
    STARTTLS = auto()
    HANDSHAKE = auto()
    """Nothing from the table: TLS has to be negotiated now, then `secured` goes on."""
    READY = auto()
    """Nothing: the connection can take a mail."""


class Offers(msgspec.Struct, frozen=True):
    """What the hop's EHLO offered."""

    pipelining: bool = False
    starttls: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    size: bool = False
    size_bytes: int = 0
    """Largest message it takes (RFC 1870 section 4); 0 when it names none."""


def offers(reply: Reply) -> Offers:
    """The extensions that an EHLO reply names behind its first line; a malformed one counts as not named."""
    words = [line.upper().split() for line in reply.lines[1:]]
    named = {line[0]: line[1:] for line in words if line}
    size = named.get(b"SIZE", [])
    return Offers(
        pipelining=b"PIPELINING" in named,
        starttls=b"STARTTLS" in named,
        eight_bit=b"8BITMIME" in named,
        smtputf8=b"SMTPUTF8" in named,
        size=b"SIZE" in named,
        size_bytes=int(size[0]) if size and size[0].isdigit() and len(size[0]) <= 20 else 0,
    )


class Opening:
    """One connection from its greeting on. `tls` False keeps it in clear, which only opportunistic TLS allows."""

    def __init__(self, hostname: str, mode: TlsMode, *, tls: bool = True) -> None:
        self._hostname = hostname.encode()
        self._may_be_clear = mode == "opportunistic"
        self._wants_tls = tls or not self._may_be_clear
        self._is_secure = False
        self.offers = Offers()
        """What was offered last, so after TLS only what was said under it (RFC 3207 section 4.2)."""
        self.stage = Stage.GREETING

    def heard(self, reply: Reply) -> bytes:
        """What to say next. Raises Refused when the hop will not have us, Garbled when it makes no sense."""
        if reply.code == 421:
            raise refusal(reply)
        if reply.kind == 3 or self.stage in (Stage.HANDSHAKE, Stage.READY):
            raise Garbled(f"a reply that makes no sense: {reply.code}")
        return _TABLE[self.stage, reply.kind == 2](self, reply)

    def secured(self) -> bytes:
        """What to say once TLS is negotiated."""
        self._is_secure = True
        return self._ehlo(None)

    def _ehlo(self, _: Reply | None) -> bytes:
        self.stage, self.offers = Stage.EHLO, Offers()
        return b"EHLO %b\r\n" % self._hostname

    def _helo(self, _: Reply) -> bytes:
        self.stage = Stage.HELO
        return b"HELO %b\r\n" % self._hostname

    def _take_offers(self, reply: Reply) -> bytes:
        self.offers = offers(reply)
        return self._greeted(reply)

    def _greeted(self, _: Reply) -> bytes:
        if self._wants_tls and not self._is_secure:
            if self.offers.starttls:
                self.stage = Stage.STARTTLS
                return b"STARTTLS\r\n"
            if not self._may_be_clear:
                raise Refused(451, "4.7.5", "The next hop does not offer TLS, which is required")
        self.stage = Stage.READY
        return b""

    def _handshake(self, _: Reply) -> bytes:
        self.stage = Stage.HANDSHAKE
        return b""

    def _without_tls(self, reply: Reply) -> bytes:
        if not self._may_be_clear:
            raise Refused(451, "4.7.5", f"The next hop refuses TLS, which is required: {refusal(reply).text}")
        self.stage = Stage.READY
        return b""

    def _refused(self, reply: Reply) -> bytes:
        raise refusal(reply)


_TABLE = {
    (Stage.GREETING, True): Opening._ehlo,
    (Stage.GREETING, False): Opening._refused,
    (Stage.EHLO, True): Opening._take_offers,
    (Stage.EHLO, False): Opening._helo,
    (Stage.HELO, True): Opening._greeted,
    (Stage.HELO, False): Opening._refused,
    (Stage.STARTTLS, True): Opening._handshake,
    (Stage.STARTTLS, False): Opening._without_tls,
}
"""What a reply means at each stage; True stands for 2xx, False for 4xx and 5xx."""
