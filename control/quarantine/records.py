"""The verdict record of a kept mail as its viewer may see it: read from the store, other accounts' parts left out."""

import re
from collections.abc import Set
from typing import Any

import msgspec

from control.quarantine.frames import Damaged, expanded
from monitoring import log
from syncd.spool.record import Judgement, Record

HIDDEN = "…"
LOG = log.get(__name__)
_ADDRESS = re.compile(r"[^\s<>,;:]+@[^\s<>,;:]+")
_RCPT = re.compile(r"\s*RCPT\b", re.IGNORECASE)


def read(packed: bytes) -> Record | None:
    """A stored record; None, and a line in the log, for one that cannot be read."""
    found: Record | None = _unpack(packed, Record)
    return found


def judgements(packed: bytes) -> tuple[Judgement, ...]:
    """The verdicts stored with a message; () for what cannot be read."""
    return _unpack(packed, tuple[Judgement, ...]) or ()


def for_account(record: Record, account: str) -> Record:
    """The record without what concerns other accounts: their recipients, their verdicts, their lines of the session.

    One transaction can hold recipients of several customers; none may learn of another by it.
    """
    own = tuple(each for each in record.recipients if each.account == account)
    shown = {each.judgements for each in own}
    judged = tuple(each if index in shown else () for index, each in enumerate(record.judgements))
    known = {address.lower() for address in (record.sender, *(each.address for each in own)) if address}
    return msgspec.structs.replace(
        record,
        recipients=own,
        judgements=judged,
        dialogue=tuple((at, side, _hide(line, known)) for at, side, line in record.dialogue),
    )


def _hide(line: str, known: Set[str]) -> str:
    if _RCPT.match(line) and not any(address in line.lower() for address in known):
        return f"RCPT TO:<{HIDDEN}>"
    return _ADDRESS.sub(lambda found: found[0] if found[0].lower() in known else HIDDEN, line)


def _unpack(packed: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(expanded(packed), type=kind)
    except (Damaged, msgspec.DecodeError) as error:
        LOG.warning("stored record unreadable", error=str(error))
        return None
