"""Tells of a transaction: the spool record of it, and its one log line."""

import hashlib
from collections.abc import Sequence
from typing import Any

from mx import headers, trace
from mx.filter import Message
from mx.transaction import Addressee, Connection, Transaction, TurnedAway
from syncd.spool.record import Judgement, Kind, Outcome, RecipientResult, Record

ATTACHMENTS = 50
"""How many attachment names a record carries."""

NO_REASON = ("", "")


class Report:
    """What can be told of one transaction; header and hash are read once, when first needed."""

    def __init__(self, node: str, hostname: str, connection: Connection, txn: Transaction) -> None:
        self._node, self._hostname, self._connection, self._txn = node, hostname, connection, txn
        self._message_fields: dict[str, Any] | None = None
        self.message: Message | None = None
        """Set once the message was parsed."""
        self.checks: tuple[str, ...] = ()
        """Results for our Authentication-Results field."""

    @property
    def raw(self) -> bytes:
        """The message as received."""
        return self._txn.raw

    def trace(self, recipient: str = "") -> bytes:
        """Our trace fields; `recipient` only for a copy that goes to that one alone."""
        passage = trace.Passage(
            id=self._txn.id,
            hostname=self._hostname,
            client_ip=self._connection.client_ip,
            helo=self._connection.host_name or "",
            at=self._txn.times.began,
            esmtp=self._connection.extended_smtp,
            smtputf8=self._txn.smtp_utf8,
            tls=self._connection.tls,
        )
        return trace.authentication_results(self._hostname, self.checks) + trace.received(passage, recipient)

    def record(self, kind: Kind, results: Sequence[tuple[Addressee, Outcome]], reply: str) -> Record:
        """The spool record; an EVENT also names the recipients that were turned away at RCPT."""
        judgements: list[tuple[Judgement, ...]] = []
        recipients = [_result(addressee, outcome, judgements) for addressee, outcome in results]
        if kind is Kind.EVENT:
            first = len(self._txn.addressees)
            recipients += [_turned_away(first + n, one) for n, one in enumerate(self._txn.turned_away)]
        return Record(
            id=self._txn.id,
            kind=kind,
            node=self._node,
            received_at=self._txn.times.began,
            client_ip=self._connection.client_ip,
            client_port=self._connection.client_port,
            helo=(self._connection.host_name or "")[:255],
            tls=self._connection.tls,
            sender=self._txn.sender.address,
            smtputf8=self._txn.smtp_utf8,
            eight_bit=self._txn.eight_bit,
            recipients=tuple(recipients),
            judgements=tuple(judgements),
            reply=reply,
            trace=self.trace().decode() if kind is not Kind.EVENT else "",
            dialogue=self._connection.dialogue(),
            **self._of_message(),
        )

    def log_fields(self, reply: str) -> dict[str, Any]:
        """The fields of the transaction's one log line."""
        txn = self._txn
        return {
            "id": txn.id,
            "client": self._connection.client_ip,
            "helo": self._connection.host_name or "",
            "tls": self._connection.tls,
            "sender": txn.sender.address,
            "size": len(txn.raw),
            "reply": reply,
            "revision": max((one.policy.revision for one in txn.addressees), default=0),
            "recipients": [
                {"to": one.address, "outcome": one.outcome.value if one.outcome else "", "by": _why(one)[0]}
                for one in txn.addressees
            ],
            "turned_away": [{"to": one.address, "reply": one.reply.line} for one in txn.turned_away],
        }

    def _of_message(self) -> dict[str, Any]:
        if self._message_fields is None:
            self._message_fields = self._read_message() if self._txn.raw else {}
        return self._message_fields

    def _read_message(self) -> dict[str, Any]:
        raw = self._txn.raw
        found = headers.summaries(raw, b"subject", b"from", b"message-id")
        names = [part.filename for part in self.message.parts if part.filename] if self.message else []
        return {
            "subject": found.get(b"subject", ""),
            "header_from": found.get(b"from", ""),
            "message_id": found.get(b"message-id", ""),
            "attachments": tuple(headers.printable(name) for name in names[:ATTACHMENTS]),
            "body_bytes": len(raw),
            "body_sha256": hashlib.sha256(raw).hexdigest(),
        }


def _result(addressee: Addressee, outcome: Outcome, judgements: list[tuple[Judgement, ...]]) -> RecipientResult:
    reason, text = _why(addressee) if outcome is not Outcome.DELIVERED else NO_REASON
    decision, answer, policy = addressee.decision, addressee.answer, addressee.policy
    return RecipientResult(
        n=addressee.n,
        address=addressee.address,
        domain=policy.domain,
        account=policy.account,
        outcome=outcome,
        reason=reason,
        text=text,
        score=decision.score if decision else 0.0,
        reply=f"{answer.code} {answer.enhanced} {answer.text}" if answer else "",
        next_hop=answer.hop if answer else "",
        judgements=_index(judgements, decision.judgements) if decision and decision.judgements else -1,
        generation=policy.generation,
        revision=policy.revision,
        policy=policy.hash,
    )


def _why(addressee: Addressee) -> tuple[str, str]:
    """Class of the outcome, and one plain sentence for the customer."""
    answer, decision = addressee.answer, addressee.decision
    if answer and not answer.taken:
        reason = "unknown_user" if answer.enhanced == "5.1.1" else "next_hop"
        return reason, f"The next hop {answer.hop} said: {answer.code} {answer.enhanced} {answer.text}"
    if decision:
        return decision.by, decision.verdict.reason
    return addressee.cause, addressee.cause_text


def _turned_away(n: int, one: TurnedAway) -> RecipientResult:
    outcome = Outcome.DEFERRED if one.reply.is_temporary else Outcome.REFUSED
    return RecipientResult(
        n=n,
        address=one.address,
        domain=one.domain,
        account=one.policy.account if one.policy else "",
        outcome=outcome,
        reason=one.reason,
        reply=one.reply.line,
        revision=one.policy.revision if one.policy else 0,
        generation=one.policy.generation if one.policy else 0,
        policy=one.policy.hash if one.policy else "",
    )


def _index(judgements: list[tuple[Judgement, ...]], one: tuple[Judgement, ...]) -> int:
    """Position of these judgements among the record's distinct ones."""
    if one not in judgements:
        judgements.append(one)
    return judgements.index(one)
