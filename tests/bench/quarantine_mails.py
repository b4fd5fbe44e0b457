"""Mails for the bench of the quarantine: recombined from a corpus, with words by Zipf's law. Pure but for the corpus.

953 mails repeated would make every figure meaningless: the same words in every mail, the same bytes in every pack.
Here each body is made of pieces of several mails with sentences of a vocabulary of 500,000 words between them.
"""

import random
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import accumulate
from pathlib import Path

from syncd.spool.record import Judgement, Kind, Outcome, RecipientResult, Record

WORDS = 500_000
PICKS = 1 << 20
"""Words drawn ahead; a mail takes some that follow each other, from anywhere."""
BIG_SHARE = 0.2
REASONS = ("content", "dnsbl", "spf", "score", "uris", "attachments", "helo", "next_hop")
FILTERS = ("connection", "helo", "dnsbl", "spf", "loop", "headers", "content", "uris", "attachments", "size", "ptr")
_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_WORD = re.compile(r"[a-z]{2,16}")
_SYLLABLES = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("", "n", "r", "s", "l")]


@dataclass(frozen=True)
class Header:
    """What a row shows of one mail."""

    id: str
    at: datetime
    sender: str
    subject: str
    header_from: str
    recipient: str
    domain: int
    attachments: tuple[str, ...]
    reason: str
    score: float
    size: int
    ip: str


class Mails:
    """Draws headers and bodies, the same for the same seed."""

    def __init__(self, corpus: Path, domains: int, seed: int) -> None:
        self._draw = random.Random(seed)
        self._pieces, self._picks = _material(corpus)
        self._domains = domains

    def words(self, count: int) -> Sequence[str]:
        """So many words, as often as Zipf has them."""
        start = self._draw.randrange(PICKS - count)
        return self._picks[start : start + count]

    def header(self, at: datetime) -> Header:
        """One mail that came at this time."""
        draw = self._draw
        words = self.words(14)
        host = f"{words[12]}.{draw.choice(('com', 'net', 'test', 'info'))}"
        domain = 0 if draw.random() < BIG_SHARE else draw.randrange(1, self._domains)
        return Header(
            id=ulid(at, draw),
            at=at,
            sender=f"{words[10]}.{words[11]}@{host}",
            subject=" ".join(words[: draw.randrange(3, 9)]),
            header_from=f"{words[9].title()} <{words[10]}@{host}>",
            recipient=f"user{draw.randrange(200 if domain == 0 else 20)}@d{domain}.bench",
            domain=domain,
            attachments=(f"{words[13]}.zip",) if draw.random() < 0.05 else (),
            reason=draw.choices(REASONS, (30, 25, 8, 20, 8, 3, 5, 1))[0],
            score=round(draw.gauss(7, 3), 1),
            size=int(draw.lognormvariate(9, 0.8)),
            ip=f"{draw.randrange(1, 224)}.{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(256)}",
        )

    def body(self, header: Header) -> bytes:
        """A whole mail for a header: 10 KB on average, half of them HTML."""
        draw = self._draw
        kind = "html" if draw.random() < 0.5 else "plain"
        parts = [
            f"Received: from {header.ip} by mx1.bench; {header.at:%a, %d %b %Y %H:%M:%S +0000}",
            f"From: {header.header_from}",
            f"To: {header.recipient}",
            f"Subject: {header.subject}",
            f"Message-ID: <{header.id}@bench.test>",
            f"Content-Type: text/{kind}; charset=utf-8",
            "",
        ]
        for _ in range(max(2, int(draw.lognormvariate(2.2, 0.6)))):
            parts.append(draw.choice(self._pieces))
            parts.append(" ".join(self.words(30)) + ".")
        return "\r\n".join(parts).encode()


def record(header: Header, account: str, body_bytes: int) -> Record:
    """The record that a node would ship for it."""
    judged = tuple(
        Judgement(name, "message", "on", "refuse" if name == header.reason else "pass", reason=f"{name} of {header.ip}")
        for name in FILTERS
    )
    result = RecipientResult(
        n=0,
        address=header.recipient,
        domain=header.recipient.rpartition("@")[2],
        account=account,
        outcome=Outcome.KEPT,
        reason=header.reason,
        text=f"Refused by {header.reason}.",
        score=header.score,
        judgements=0,
        revision=7,
    )
    return Record(
        id=header.id,
        kind=Kind.KEPT,
        node="mx1",
        received_at=header.at.timestamp(),
        client_ip=header.ip,
        helo="client.bench.test",
        sender=header.sender,
        recipients=(result,),
        judgements=(judged,),
        subject=header.subject,
        header_from=header.header_from,
        message_id=f"<{header.id}@bench.test>",
        attachments=header.attachments,
        body_bytes=body_bytes,
        reply="550 5.7.1 refused",
    )


def ulid(at: datetime, draw: random.Random) -> str:
    """A transaction's id of this time."""
    number = int(at.timestamp() * 1000) << 80 | draw.getrandbits(80)
    return "".join(_BASE32[number >> shift & 31] for shift in range(125, -1, -5))


def read(corpus: Path) -> list[str]:
    """The mails of an archive, as text."""
    with tarfile.open(corpus, "r:xz") as archive:
        files = [archive.extractfile(member) for member in archive if member.isfile()]
        return [file.read().decode("latin-1") for file in files if file]


def vocabulary(texts: Sequence[str]) -> list[str]:
    """`WORDS` words, the frequent ones of the corpus first, then made-up ones."""
    counted = Counter(word for text in texts for word in _WORD.findall(text.lower()))
    known = [word for word, _ in counted.most_common(WORDS)]
    return known + list(_made_up(WORDS - len(known), set(known)))


@cache
def _material(corpus: Path) -> tuple[list[str], list[str]]:
    """Pieces of bodies, and words in the order in which they are taken."""
    texts = read(corpus)
    pieces = [piece for text in texts for piece in _pieces(text)]
    return pieces, _drawn(vocabulary(texts), random.Random(7))


def _made_up(count: int, known: set[str]) -> Iterator[str]:
    draw = random.Random(11)
    while count > 0:
        word = "".join(draw.choices(_SYLLABLES, k=draw.choice((2, 3, 3, 4))))
        if word not in known:
            known.add(word)
            count -= 1
            yield word


def _drawn(words: Sequence[str], draw: random.Random) -> list[str]:
    """Words by Zipf's law: the n-th most frequent one 1/n as often as the first."""
    return draw.choices(words, cum_weights=list(accumulate(1 / (rank + 3) for rank in range(len(words)))), k=PICKS)


def _pieces(text: str) -> Iterator[str]:
    """A mail's body in pieces of eight lines."""
    lines = text.partition("\n\n")[2].splitlines()
    for start in range(0, min(len(lines), 400), 8):
        yield "\r\n".join(line[:300] for line in lines[start : start + 8])
