"""Relays a mail in the session: one transaction for the recipients who share next hops and verdict."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.metrics import mx as metrics
from mx import headers
from mx.filter import Action
from mx.outcome import End, Fate
from mx.replies import Reply, deferred, refused, taken
from mx.report import Report
from mx.transaction import Addressee, Transaction
from syncd.layers import NextHop
from syncd.nexthop import Answer, Pool, Timeouts, deliver
from syncd.spool.record import Outcome

UNREACHABLE = "The recipient's server cannot be reached, try again later"
CUT = "The recipient's server did not confirm, try again later"


@dataclass(frozen=True, slots=True)
class Way:
    """What recipients of one relay transaction have in common."""

    next_hops: tuple[NextHop, ...]
    tag: str


def ways(addressees: Sequence[Addressee]) -> dict[Way, list[Addressee]]:
    """The recipients to relay to, by what they have in common."""
    grouped: dict[Way, list[Addressee]] = {}
    for one in addressees:
        tag = one.decision.tag if one.decision and one.decision.action is Action.TAG else ""
        grouped.setdefault(Way(tuple(one.policy.next_hops), tag), []).append(one)
    return grouped


async def relay(
    addressees: Sequence[Addressee],
    txn: Transaction,
    report: Report,
    *,
    hostname: str,
    timeouts: Timeouts,
    pool: Pool | None,
) -> None:
    """Hand the mail to every recipient's next hop at once, and set each one's `answer`, and its outcome when taken."""
    async with asyncio.TaskGroup() as group:
        for way, together in ways(addressees).items():
            group.create_task(_relay_one_way(way, together, txn, report, hostname, timeouts, pool))


async def _relay_one_way(
    way: Way,
    together: Sequence[Addressee],
    txn: Transaction,
    report: Report,
    hostname: str,
    timeouts: Timeouts,
    pool: Pool | None,
) -> None:
    if not way.next_hops:
        _no_next_hop(together)
        return
    began = time.perf_counter()
    answers = await deliver(
        way.next_hops,
        txn.sender.address,
        [one.address for one in together],
        (report.trace(together[0].address if len(together) == 1 else ""), headers.cleaned(txn.raw, hostname, way.tag)),
        hostname=hostname,
        timeouts=timeouts,
        smtputf8=txn.smtp_utf8,
        eight_bit=txn.eight_bit,
        pool=pool,
    )
    metrics.relay_seconds.observe(time.perf_counter() - began)
    metrics.relay_attempts.labels(_result(next(iter(answers.values())))).inc()
    for one in together:
        one.answer = answers[one.address]
        if one.answer.taken:
            one.outcome = Outcome.DELIVERED


def _no_next_hop(together: Sequence[Addressee]) -> None:
    for one in together:
        one.answer = Answer(451, "4.3.5", "The domain has no next hop", "", "connect", answered=False)


def _result(answer: Answer) -> str:
    return f"{answer.code // 100}xx" if answer.answered else "no_answer"


def fate(one: Addressee, panel_url: str, transaction: str) -> Fate:
    """How a relayed recipient ended, by its next hop's answer, and what the sender would hear of it alone."""
    answer = one.answer
    if answer is None:
        raise ValueError(f"recipient {one.n} was not relayed")
    if answer.taken:
        return Fate(End.DELIVERED, taken(transaction))
    if answer.unknown:
        return Fate(End.DEFERRED, deferred(451, "4.4.2", CUT))
    if answer.down and one.policy.sections["delivery"].keep_when_down:
        return Fate(End.DOWN, taken(transaction))
    if not answer.answered:
        return Fate(End.DEFERRED, deferred(451, answer.enhanced, UNREACHABLE))
    if answer.code < 500:
        return Fate(End.DEFERRED, deferred(answer.code, answer.enhanced, answer.text))
    if is_unknown_user(answer):
        return Fate(End.UNKNOWN_USER, Reply(answer.code, answer.enhanced, answer.text))
    return Fate(End.TURNED_DOWN, refused(answer.code, answer.enhanced, answer.text, panel_url, transaction))


def is_unknown_user(answer: Answer) -> bool:
    """Whether the next hop said that there is no such mailbox (RFC 3463: X.1.1)."""
    return answer.answered and answer.code >= 500 and answer.enhanced == "5.1.1" and answer.phase == "rcpt"
