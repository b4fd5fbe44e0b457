"""What became of the drill's mails: the send log against the mailbox and the quarantine. Pure.

A duplicate is one transaction seen twice. A client that lost our reply and sends again makes a new transaction
(RFC 1047): such repeats are allowed up to the number of sessions cut after their dot, and counted apart.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.drill.load import Mail

_ID = re.compile(rb"\bid ([0-9A-HJKMNP-TV-Z]{26})\b")


@dataclass(slots=True)
class Verdict:
    """Counts over the mails of one fault; the lists name marks."""

    sent: int = 0
    attempts: int = 0
    delivered: int = 0
    kept: int = 0
    deferred: int = 0
    """Attempts that were answered 4xx."""
    cut: int = 0
    """Attempts that got no answer."""
    repeats: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    falsely_refused: list[str] = field(default_factory=list)
    wrongly_passed: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every promise held."""
        return not (self.lost or self.duplicated or self.falsely_refused or self.wrongly_passed or self.unanswered)


def judge(mails: Iterable[Mail], boxes: Mapping[str, Sequence[bytes]], kept: Mapping[str, Sequence[str]]) -> Verdict:
    """The verdict over some mails. `boxes`: delivered mails by mark; `kept`: quarantine item ids by mark."""
    found = Verdict()
    for mail in mails:
        _count(found, mail)
        _judge_one(found, mail, boxes.get(mail.mark, ()), kept.get(mail.mark, ()))
    return found


def transaction(mail: bytes) -> str:
    """Our id in a delivered mail's newest Received field, "" when there is none."""
    hit = _ID.search(mail)
    return hit[1].decode() if hit else ""


def _count(found: Verdict, mail: Mail) -> None:
    found.sent += 1
    found.attempts += len(mail.attempts)
    found.deferred += sum(400 <= each.code < 500 for each in mail.attempts)
    found.cut += sum(each.code == 0 for each in mail.attempts)


def _judge_one(found: Verdict, mail: Mail, copies: Sequence[bytes], items: Sequence[str]) -> None:
    found.delivered += bool(copies)
    found.kept += bool(items)
    wanted, other = (items, copies) if mail.refused else (copies, items)
    if mail.answer == 0:
        found.unanswered.append(mail.mark)
    elif not mail.refused and mail.answer >= 500:
        found.falsely_refused.append(mail.mark)
    elif mail.refused and mail.answer == 250:
        found.wrongly_passed.append(mail.mark)
    elif not wanted:
        found.lost.append(mail.mark)
    if other:
        (found.wrongly_passed if mail.refused else found.falsely_refused).append(mail.mark)
    names = [*map(transaction, copies), *(item.partition(".")[0] for item in items)]
    if max(Counter(names).values(), default=0) > 1 or "" in names:
        found.duplicated.append(mail.mark)
    repeats = max(0, len(names) - 1)
    if repeats > sum(each.after_dot for each in mail.attempts):
        found.duplicated.append(mail.mark)
    found.repeats += repeats
