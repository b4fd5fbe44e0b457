"""What became of one recipient, made from what the next hop said or from its silence."""

import re
from typing import Literal

import msgspec

from syncd.nexthop.reply import Reply

Phase = Literal["connect", "mail", "rcpt", "data", "dot"]

TEXT_CHARS = 300
"""What is kept of a reply's text; RFC 5321 section 4.5.3.1.5 allows a line of 512 octets."""

_ENHANCED = re.compile(rb"([245]\.\d{1,3}\.\d{1,3})(?:\s+|$)")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


class Answer(msgspec.Struct, frozen=True):
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


class Refused(Exception):
    """The hop answered no, or lacks what this mail needs: code, enhanced code and text to answer with."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.code, self.enhanced, self.text = code, enhanced, text

    def answer(self, hop: str, phase: Phase) -> Answer:
        """The same as an answer."""
        return Answer(self.code, self.enhanced, clean(self.text), hop, phase)


def refusal(reply: Reply) -> Refused:
    """A reply of 4xx or 5xx as the error that ends an opening."""
    enhanced, text = _enhanced_and_text(reply)
    return Refused(reply.code, enhanced, text)


def replied(reply: Reply, hop: str, phase: Phase) -> Answer:
    """The answer that a reply of 2xx, 4xx or 5xx means."""
    enhanced, text = _enhanced_and_text(reply)
    return Answer(reply.code, enhanced, text, hop, phase)


def no_answer(why: str, hop: str, phase: Phase, *, unknown: bool = False) -> Answer:
    """The answer when the hop said nothing that could be understood: 451, and why."""
    enhanced = "4.4.1" if phase == "connect" else "4.4.2"
    return Answer(451, enhanced, clean(why), hop, phase, unknown=unknown, answered=False)


def clean(text: str) -> str:
    """One printable line of what a server said; no byte of it can start a line of ours."""
    return _UNPRINTABLE.sub(" ", text).strip()[:TEXT_CHARS]


def _enhanced_and_text(reply: Reply) -> tuple[str, str]:
    """The enhanced code of the first line (RFC 2034 section 4: every line repeats it) and the text without it."""
    first = _ENHANCED.match(reply.lines[0])
    if first is None or first[1][0] != ord("0") + reply.kind:
        return f"{reply.kind}.0.0", clean(_joined(reply.lines))
    code = first[1]
    rest = [line.removeprefix(code).lstrip() if line.startswith(code) else line for line in reply.lines]
    return code.decode(), clean(_joined(rest))


def _joined(lines: "tuple[bytes, ...] | list[bytes]") -> str:
    return b" ".join(lines).decode("latin-1")
