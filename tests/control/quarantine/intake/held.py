"""Records as a receiver holds them: with a body in a real file, as the journal has it."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from ulid import ULID

from syncd.spool.record import Judgement, Kind, Outcome, RecipientResult, Record
from syncd.spool.stream import Stream

STREAM = Stream("mx1", "e" * 32)
MAIL = b"From: Ann <ann@sender.test>\r\nSubject: about zq123\r\n\r\nhello\r\n"
ACCOUNT = "01ACCOUNT0000000000000MINE"
THEIRS = "01ACCOUNT00000000000THEIRS"
DOMAIN = "mine.test"


@dataclass(frozen=True)
class OnDisk:
    """One record with its body in a file of its own."""

    stream: Stream
    position: int
    header: bytes
    body: Path

    @property
    def body_bytes(self) -> int:
        """Length of the body."""
        return self.body.stat().st_size

    def read_body(self) -> bytes:
        """The body."""
        return self.body.read_bytes()


class Journal:
    """Hands out records with the next positions of a stream."""

    def __init__(self, directory: Path, stream: Stream = STREAM) -> None:
        self.directory, self.stream, self.last = directory, stream, 0
        directory.mkdir(exist_ok=True)

    def hold(self, record: Record | bytes, body: bytes = MAIL, *, position: int = 0) -> OnDisk:
        """Hold a record (or what stands in its place)."""
        self.last = self.last if position else self.last + 1
        position = position or self.last
        path = self.directory / f"{self.stream.epoch}.{position}"
        path.write_bytes(body)
        header = record if isinstance(record, bytes) else msgspec.json.encode(record)
        return OnDisk(self.stream, position, header, path)

    def mails(self, count: int, **fields: Any) -> list[OnDisk]:
        """So many kept mails."""
        return [self.hold(kept(**fields)) for _ in range(count)]


def result(
    n: int = 0, address: str = f"you@{DOMAIN}", outcome: Outcome = Outcome.KEPT, **fields: Any
) -> RecipientResult:
    """One recipient."""
    values = {"domain": address.rpartition("@")[2], "account": ACCOUNT, "reason": "content", "text": "A listed word."}
    return RecipientResult(n=n, address=address, outcome=outcome, **{**values, **fields})


def kept(*recipients: RecipientResult, at: datetime | None = None, **fields: Any) -> Record:
    """A refused mail."""
    at = at or datetime.now(UTC)
    values: dict[str, Any] = {
        "id": str(ULID.from_datetime(at)),
        "kind": Kind.KEPT,
        "node": "mx1",
        "received_at": at.timestamp(),
        "client_ip": "192.0.2.7",
        "helo": "client.sender.test",
        "sender": "ann@sender.test",
        "recipients": recipients or (result(judgements=0),),
        "judgements": ((Judgement("content", "message", "on", "refuse", reason="zq123", acted=True),),),
        "subject": "about zq123",
        "header_from": "Ann <ann@sender.test>",
        "attachments": ("Invoice_7.pdf",),
        "body_bytes": len(MAIL),
        "body_sha256": hashlib.sha256(MAIL).hexdigest(),
        "reply": "550 5.7.1 no",
    }
    return Record(**{**values, **fields})


def event(*recipients: RecipientResult, **fields: Any) -> Record:
    """What became of a transaction that left no copy."""
    recipients = recipients or (result(outcome=Outcome.DELIVERED, reason="", text=""),)
    return kept(*recipients, **{"kind": Kind.EVENT, "judgements": (), **fields})
