"""Plays the plain-text dialogues beside this file against the SMTP front over a socket.

A file holds cases; `=== name` begins one. Lines of a case:

    C: text      the client sends text and CRLF; \\r \\n \\0 \\t \\xNN are those bytes
    C= text      the same without CRLF; a line `C* n text` sends text n times
    S: pattern   the next line of the server matches (`*` any characters, `?` one)
    S* pattern   lines are read up to the last one of the reply, and that one matches
    hello        the greeting, and EHLO with its answer
    mail S R …   MAIL from S and RCPT to each R, each answered 250 (S may be <>)
    data         DATA, answered 354
    set name v   before the first line of the dialogue: a setting of `config.Smtp` or of its limits
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
from typing import Any

import msgspec
import pytest

from syncd.config import Smtp, SmtpLimits
from syncd.spool.record import Kind
from tests.certificates import server_context
from tests.mx.client import until
from tests.mx.neighbours import Known, ListedOnly, Running, running, sections
from tests.nexthops import Mailbox, real

HERE = Path(__file__).parent
MAX_MESSAGE_BYTES = 300_000
SMTP_FIELDS = {one.name: one.type for one in msgspec.structs.fields(Smtp)}


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
        self._acts = {
            "hello": self._hello,
            "data": self._data,
            "tls": self._start_tls,
            "half-close": self._half_close,
            "end": self._end,
        }

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
        elif kind == "mail":
            await self._mail(*rest.split(" "))
        else:
            await self._acts[kind]()

    async def _hello(self) -> None:
        await self._expect("220 *", last=False)
        await self._say("EHLO client.test", "250 *")

    async def _mail(self, sender: str, *recipients: str) -> None:
        await self._say(f"MAIL FROM:<{sender.strip('<>')}>", "250 2.1.0 *")
        for recipient in recipients:
            await self._say(f"RCPT TO:<{recipient}>", "250 2.1.5 *")

    async def _data(self) -> None:
        await self._say("DATA", "354 *")

    async def _say(self, command: str, pattern: str) -> None:
        self._writer.write(command.encode() + b"\r\n")
        await self._expect(pattern, last=True)

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
        async with asyncio.timeout(15):
            try:
                rest = await self._reader.read()
            except ConnectionResetError:
                rest = b""
        assert rest == b"", f"the server said {rest!r} before it closed"


def _bytes(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


@contextlib.asynccontextmanager
async def domains(mailbox: Mailbox, tls: ssl.SSLContext, settings: dict[str, str]) -> AsyncIterator[Running]:
    """The domains of the dialogues: each is named by how it behaves."""
    limits = {name: settings.pop(name) for name in list(settings) if name in SmtpLimits.__struct_fields__}
    smtp: dict[str, Any] = {"max_message_bytes": MAX_MESSAGE_BYTES, "limits": {"idle_s": 20.0, **limits}, **settings}
    if "proxies" in smtp:
        smtp["proxies"] = smtp["proxies"].split(",")
    smtp = {name: msgspec.convert(value, SMTP_FIELDS[name], strict=False) for name, value in smtp.items()}
    async with real(mailbox) as hop:
        policies = [
            Known("open.test", (hop,), sections("off")),
            Known("strict.test", (hop,), sections()),
            Known("listed.test", (hop,), sections(), ListedOnly(frozenset({"known"}))),
        ]
        async with running(policies, tls=tls, **smtp) as front:
            yield front


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case.where)
async def test_dialogue(case: Case, tmp_path: Path) -> None:
    mailbox = Mailbox()
    settings = dict(line.split(" ")[1:] for _, line in case.lines if line.startswith("set "))
    async with domains(mailbox, server_context(tmp_path), settings) as front:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        player = Player(reader, writer)
        for number, line in case.lines:
            if not line.startswith(("=", "set ")):
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
