"""Plays the plain-text dialogues beside this file against the SMTP front over a socket.

A file holds cases; `=== name` begins one. Lines of a case:

    C: text      the client sends text and CRLF; \\r \\n \\0 \\t \\xNN are those bytes
    C= text      the same without CRLF; a line `C* n text` sends text n times
    S: pattern   the next line of the server matches (`*` any characters, `?` one)
    S* pattern   lines are read up to the last one of the reply, and that one matches
    tls          the client starts TLS
    half-close   the client sends no more
    end          the server closes the connection
    = what n     after the case: `delivered`, `kept`, `later`, `events` count n recipients
    # text       a comment

Lists of domains: tests/dialogs/domains below. Every case ends with a ledger that adds up.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from syncd.spool.record import Kind
from tests.certificates import server_context
from tests.mx.client import until
from tests.mx.neighbours import Known, ListedOnly, Running, running, sections
from tests.nexthops import Mailbox, real

HERE = Path(__file__).parent
MAX_MESSAGE_BYTES = 300_000


@dataclass
class Case:
    """One dialogue and where it stands."""

    where: str
    lines: list[tuple[int, str]] = field(default_factory=list)


def _cases() -> list[Case]:
    found: list[Case] = []
    for path in sorted(HERE.glob("*.txt")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("=== "):
                found.append(Case(f"{path.stem}: {line[4:]}"))
            elif line.strip() and not line.startswith("#"):
                found[-1].lines.append((number, line))
    return found


class Player:
    """Plays one case over one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def play(self, line: str) -> None:
        """One line of the case."""
        kind, _, rest = line.partition(" ")
        if kind in ("C:", "C="):
            self._writer.write(_bytes(rest) + (b"\r\n" if kind == "C:" else b""))
        elif kind == "C*":
            count, _, text = rest.partition(" ")
            self._writer.write(_bytes(text) * int(count))
        elif kind in ("S:", "S*"):
            await self._expect(rest, last=kind == "S*")
        else:
            await {"tls": self._start_tls, "half-close": self._half_close, "end": self._end}[kind]()

    async def _expect(self, pattern: str, *, last: bool) -> None:
        async with asyncio.timeout(10):
            line = await self._reader.readline()
            while last and line[3:4] == b"-":
                line = await self._reader.readline()
        assert line.endswith(b"\r\n"), f"the server closed instead of {pattern!r}"
        assert fnmatchcase(line[:-2].decode("ascii"), pattern), f"{line!r} instead of {pattern!r}"

    async def _start_tls(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await self._writer.start_tls(context)

    async def _half_close(self) -> None:
        self._writer.write_eof()

    async def _end(self) -> None:
        async with asyncio.timeout(10):
            rest = await self._reader.read()
        assert rest == b"", f"the server said {rest!r} before it closed"


def _bytes(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


@contextlib.asynccontextmanager
async def domains(mailbox: Mailbox, tls: ssl.SSLContext) -> AsyncIterator[Running]:
    """The domains of the dialogues: each is named by how it behaves."""
    async with real(mailbox) as hop:
        policies = [
            Known("open.test", (hop,), sections("off")),
            Known("strict.test", (hop,), sections()),
            Known("listed.test", (hop,), sections(), ListedOnly(frozenset({"known"}))),
        ]
        async with running(policies, tls=tls, max_message_bytes=MAX_MESSAGE_BYTES) as front:
            yield front


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case.where)
async def test_dialogue(case: Case, tmp_path: Path) -> None:
    mailbox = Mailbox()
    async with domains(mailbox, server_context(tmp_path)) as front:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        player = Player(reader, writer)
        for number, line in case.lines:
            if not line.startswith("="):
                try:
                    await player.play(line)
                except (AssertionError, TimeoutError, KeyError) as error:
                    raise AssertionError(f"line {number}: {line}: {error}") from error
        writer.close()
        await until(lambda: front.ledger.in_flight == 0)
        assert front.ledger.drift == 0
        for number, line in case.lines:
            if line.startswith("="):
                assert _counts(front, mailbox)[line.split()[1]] == int(line.split()[2]), f"line {number}: {line}"


def _counts(front: Running, mailbox: Mailbox) -> dict[str, int]:
    return {
        "delivered": len(mailbox.recipients()),
        "kept": len(front.spool.kept(Kind.KEPT)),
        "later": len(front.spool.kept(Kind.LATER)),
        "events": sum(len(record.recipients) for record in front.spool.events),
    }
