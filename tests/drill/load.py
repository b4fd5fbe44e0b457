"""The drill's load: mails at a steady rate through all nodes, each sent again until it has a final answer.

Half of them hold a word that the domain refuses. Every attempt is logged before and after, so that the log tells
what a sender can know: what was answered, and which sessions were cut after the final dot.
"""

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ANSWER_WITHIN_S = 125.0
"""Above the 120 s after which a node has answered."""
CONNECT_WITHIN_S = 10.0
PAUSE_S = (0.2, 0.5, 1.0, 2.0)
"""Before the next attempt; the last one repeats."""


@dataclass(slots=True)
class Attempt:
    """One session. `code` 0: cut without an answer; `after_dot`: by then the mail was out."""

    at: float
    node: int
    code: int = 0
    text: str = ""
    after_dot: bool = False
    took_s: float = 0.0


@dataclass(slots=True)
class Mail:
    """One mail of the load, with all that was tried."""

    mark: str
    refused: bool
    """Whether it holds the listed word."""
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def answer(self) -> int:
        """The final code; 0 when there was none."""
        last = self.attempts[-1].code if self.attempts else 0
        return last if last == 250 or last >= 500 else 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent. `cut_share`: the part of first attempts whose client leaves right before or after its dot."""

    run: str
    word: str
    recipient: str
    rate: float
    """Mails a second."""
    patience_s: float = 120.0
    body_bytes: int = 2000
    cut_share: float = 0.0


class Load:
    """Sends until it is told to stop. `nodes()` gives the SMTP addresses as they are now."""

    def __init__(self, plan: Plan, nodes: Callable[[], Sequence[tuple[str, int]]], log: Path, seed: int) -> None:
        self._plan, self._nodes, self._log = plan, nodes, log.open("a")
        self._random = random.Random(seed)
        self._stopping = asyncio.Event()
        self.mails: dict[str, Mail] = {}

    async def run(self) -> None:
        """Send at the plan's rate until `stop`, then wait for the mails still under way."""
        began, loop = time.monotonic(), asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            for number in itertools.count():
                due = began + number / self._plan.rate
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), max(0.0, due - loop.time()))
                if self._stopping.is_set():
                    break
                tasks.create_task(self._insist(number))
        self._log.flush()

    def stop(self) -> None:
        """Begin no more mails."""
        self._stopping.set()

    @property
    def open(self) -> int:
        """Mails without a final answer."""
        return sum(not mail.answer for mail in self.mails.values())

    async def _insist(self, number: int) -> None:
        mail = Mail(f"{self._plan.run}-{number}", refused=number % 2 == 1)
        self.mails[mail.mark] = mail
        cut = self._random.random() < self._plan.cut_share
        until = time.monotonic() + self._plan.patience_s
        for pause_s in itertools.chain(PAUSE_S, itertools.repeat(PAUSE_S[-1])):
            await self._try(mail, number + len(mail.attempts), cut and not mail.attempts)
            if mail.answer or time.monotonic() > until:
                break
            await asyncio.sleep(pause_s * self._random.uniform(0.7, 1.3))
        self._log.write(json.dumps(asdict(mail)) + "\n")

    async def _try(self, mail: Mail, turn: int, cut: bool) -> None:
        nodes = self._nodes()
        attempt = Attempt(time.time(), turn % len(nodes))
        mail.attempts.append(attempt)
        began = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await _send(nodes[attempt.node], self._plan, mail, attempt, cut)
        except (OSError, TimeoutError, EOFError, ValueError) as error:
            attempt.code, attempt.text = 0, repr(error)[:120]
        attempt.took_s = round(time.monotonic() - began, 4)


def content(plan: Plan, mail: Mail) -> bytes:
    """The mail's bytes, CRLF line ends, not dot-stuffed."""
    word = plan.word if mail.refused else "wanted"
    head = [
        "From: Drill <drill@sender.test>",
        f"To: {plan.recipient}",
        f"Subject: {word} {plan.run} {mail.mark}",
        "Date: Wed, 25 Nov 2026 10:00:00 +0000",
        f"Message-ID: <{mail.mark}@sender.test>",
        f"X-Drill: {mail.mark}",
    ]
    line = "What the drill sends is of no interest to anybody.\r\n"
    return ("\r\n".join([*head, "", ""]) + line * (plan.body_bytes // len(line))).encode()


async def _send(node: tuple[str, int], plan: Plan, mail: Mail, attempt: Attempt, cut: bool) -> None:
    reader, writer = await asyncio.wait_for(asyncio.open_connection(*node), CONNECT_WITHIN_S)
    to = b"RCPT TO:<%s>" % plan.recipient.encode()
    try:
        for command in (b"", b"EHLO client.sender.test", b"MAIL FROM:<drill@sender.test>", to, b"DATA"):
            attempt.code, attempt.text = await _say(reader, writer, command)
            if attempt.code >= 400:
                return
        attempt.code = 0
        writer.write(content(plan, mail))
        if cut and attempt.node % 2:
            return  # before the dot: nothing was sent
        attempt.after_dot = True
        writer.write(b".\r\n")
        await writer.drain()
        if cut:
            return  # after the dot: the sender will never know
        attempt.code, attempt.text = await _reply(reader)
        attempt.after_dot = False
    finally:
        writer.transport.abort() if cut else writer.close()


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> tuple[int, str]:
    """Say a line, or nothing to hear the greeting; the reply."""
    if line:
        writer.write(line + b"\r\n")
    return await _reply(reader)


async def _reply(reader: asyncio.StreamReader) -> tuple[int, str]:
    while True:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the connection was closed")
        if line[3:4] != b"-":
            return int(line[:3]), line[4:].decode("ascii", "replace").strip()
