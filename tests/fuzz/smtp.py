"""Invariant: whatever bytes a client sends in whatever pieces, the front says clean lines only, then closes; every
recipient has its outcome, nothing stays held, and the readers find the same in any pieces.

A mutation fuzzer guided by coverage. It begins with the dialogues of tests/dialogs, keeps what reaches new
edges of the front's code, and plays each input over a real socket. `python -m tests.fuzz.smtp --seconds 1800`
writes tree, seed, counts and result to var/fuzz-smtp.json and ends with 1 when the invariant broke.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
import uvloop

from mx import address, parameters, proxy
from mx.wire import Body, Commands
from syncd.config import SmtpLimits
from tests.dialogs.test_dialogs import HERE as DIALOGS
from tests.dialogs.test_dialogs import _bytes as unescaped
from tests.mx.neighbours import Known, ListedOnly, Running, running, sections

ROOT = Path(__file__).resolve().parents[2]
WATCHED = tuple(
    str(ROOT / "mx" / f"{name}.py")
    for name in ("stream", "voice", "server", "wire", "address", "parameters", "proxy", "room", "session")
)
MOST_BYTES = 20_000
WITHIN_S = 20.0
TOKENS = (
    *(b"\r\n", b"\n", b"\r", b".", b"\r\n.\r\n", b"\0", b"\xff", b"<", b">", b'"', b"\\", b"@", b":", b" ", b"\t"),
    *(b"EHLO c\r\n", b"MAIL FROM:<a@b.test>\r\n", b"RCPT TO:<u@open.test>\r\n", b"DATA\r\n", b"RSET\r\n", b"QUIT\r\n"),
    *(b"STARTTLS\r\n", b"BDAT 5 LAST\r\n", b"AUTH PLAIN\r\n", b"SIZE=1", b"SMTPUTF8", b"BODY=8BITMIME", b"x" * 5000),
)


@dataclass
class Report:
    """What a run did."""

    seed: int
    inputs: int = 0
    edges: int = 0
    corpus: int = 0
    seconds: float = 0.0
    finding: str = ""
    tree: str = ""


@dataclass
class Coverage:
    """Edges between lines of the watched files that any input has reached."""

    edges: set[tuple[str, int, int]] = field(default_factory=set)
    _fresh: bool = False

    def begin(self) -> None:
        """Watch from now on."""
        self._fresh = False
        sys.settrace(self._called)

    def end(self) -> bool:
        """Stop; whether something was new."""
        sys.settrace(None)
        return self._fresh

    def _called(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in WATCHED:
            return None
        last = frame.f_lineno

        def line(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal last
            edge = (frame.f_code.co_filename, last, frame.f_lineno)
            if edge not in self.edges:
                self.edges.add(edge)
                self._fresh = True
            last = frame.f_lineno
            return line

        return line


def seeds() -> list[bytes]:
    """What the clients of the dialogues say, one input a case."""
    found: list[bytes] = []
    for path in sorted(DIALOGS.glob("*.txt")):
        for line in path.read_text().splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "===":
                found.append(b"")
            elif kind in ("C:", "C="):
                found[-1] += unescaped(rest) + (b"\r\n" if kind == "C:" else b"")
            elif kind in ("hello", "mail", "data"):
                found[-1] += _short(kind, rest)
    return [one for one in found if one]


def _short(kind: str, rest: str) -> bytes:
    if kind == "mail":
        sender, *recipients = rest.split(" ")
        lines = [f"MAIL FROM:<{sender.strip('<>')}>", *(f"RCPT TO:<{one}>" for one in recipients)]
        return "".join(f"{line}\r\n" for line in lines).encode()
    return b"EHLO client.test\r\n" if kind == "hello" else b"DATA\r\n"


def mutated(chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    """A new input from old ones."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.randint(1, 6)):
        at, until = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
        kind = chance.randrange(6)
        if kind == 0:
            data[at:at] = chance.choice(TOKENS)
        elif kind == 1:
            del data[at : min(until, at + 50)]
        elif kind == 2 and data:
            data[chance.randrange(len(data))] = chance.randrange(256)
        elif kind == 3:
            data[at:at] = data[at:until]
        elif kind == 4:
            other = chance.choice(corpus)
            data[at:] = other[chance.randint(0, len(other)) :]
        else:
            data[at:at] = chance.choice(data.splitlines(keepends=True) or [b""])
    return bytes(data[:MOST_BYTES])


def read_alike(data: bytes, cuts: Sequence[int]) -> None:
    """The readers find the same in pieces as in one. Raises AssertionError."""
    whole, pieces = _lines([data]), _lines(_cut(data, cuts))
    assert whole == pieces or len(data) > 4096, "command lines depend on the pieces"
    assert _body([data]) == _body(_cut(data, cuts)), "the message depends on the pieces"
    for read in (address.reverse_path, address.forward_path):
        with contextlib.suppress(address.BadPath):
            mailbox, _ = read(data)
            assert not any(ord(character) < 0x20 for character in mailbox.address)
    with contextlib.suppress(parameters.Refused):
        parameters.of_mail(data, extended=True, limit=1000)
    with contextlib.suppress(proxy.BadProxy):
        proxy.read(data)


def _cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def _lines(pieces: Sequence[bytes]) -> list[bytes]:
    commands, found = Commands(), list[bytes]()
    for piece in pieces:
        commands.feed(piece)
        while (line := commands.line()) is not None:
            found.append(line)
    return found


def _body(pieces: Sequence[bytes]) -> tuple[bool, bytes, bool, bytes]:
    body, behind = Body(10**9), b""
    ended = False
    for piece in pieces:
        if ended:
            behind += piece
        elif body.feed(piece):
            ended, behind = True, body.rest
    return ended, body.message() if ended else b"", body.has_bare_newline if ended else False, behind


async def play(front: Running, data: bytes, cuts: Sequence[int]) -> None:
    """Send it all in pieces, half-close, hear the end. Raises AssertionError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    try:
        async with asyncio.timeout(WITHIN_S):
            for piece in _cut(data, cuts):
                writer.write(piece)
                await asyncio.sleep(0)
            if not writer.is_closing():
                writer.write_eof()
            said = await reader.read()
    except (ConnectionError, RuntimeError):
        said = b""
    except TimeoutError:
        raise AssertionError("the server does not close") from None
    finally:
        writer.close()
    for line in said.split(b"\r\n")[:-1]:
        assert line[:3].isdigit() and line[3:4] in b" -" and len(line) <= 510, line  # noqa: PT018 - one fact
        assert line.decode("ascii").isprintable(), line
    async with asyncio.timeout(WITHIN_S):
        while front.ledger.in_flight or front.reception.open_connections:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)
    assert front.ledger.drift == 0
    assert front.front.room.held_bytes == 0


async def fuzz(seed: int, seconds: float, most: int = sys.maxsize) -> Report:
    """Fuzz for so long, or so many inputs; the report names the first input that broke the invariant."""
    chance, report, coverage = random.Random(seed), Report(seed), Coverage()
    corpus = seeds()
    policies = [
        Known("open.test", (), sections("off")),
        Known("strict.test", (), sections()),
        Known("listed.test", (), sections(), ListedOnly(frozenset({"known"}))),
    ]
    began = time.monotonic()
    limits = SmtpLimits(new_per_s=10**6, new_per_s_per_network=10**6, errors_per_minute=10**9, idle_s=WITHIN_S)
    async with running(policies, limits=limits, max_message_bytes=MOST_BYTES // 2) as front:
        while time.monotonic() - began < seconds and report.inputs < most:
            data = mutated(chance, corpus) if report.inputs >= len(corpus) else corpus[report.inputs]
            cuts = [chance.randrange(MOST_BYTES) for _ in range(chance.choice((0, 0, 1, 3, 20)))]
            report.inputs += 1
            coverage.begin()
            try:
                read_alike(data, cuts)
                await play(front, data, cuts)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                report.finding = f"{type(error).__name__}: {error}; cuts {cuts}; input {data!r}"
                break
            finally:
                is_fresh = coverage.end()
            front.spool.events.clear()
            front.spool.copies.clear()
            if is_fresh and report.inputs > len(corpus):
                corpus.append(data)
    report.edges, report.corpus = len(coverage.edges), len(corpus)
    report.seconds = round(time.monotonic() - began, 1)
    return report


def main() -> None:
    """Fuzz and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # a line an input
    tree = subprocess.run(["git", "rev-parse", "HEAD^{tree}"], cwd=ROOT, capture_output=True, text=True, check=False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(fuzz(arguments.seed, arguments.seconds))
    report.tree = tree.stdout.strip()
    (ROOT / "var").mkdir(exist_ok=True)
    text = json.dumps(report.__dict__, indent=1)
    (ROOT / "var" / "fuzz-smtp.json").write_text(text + "\n")
    print(text)
    sys.exit(bool(report.finding))


if __name__ == "__main__":
    main()
