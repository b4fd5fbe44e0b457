"""One mail to one of a domain's next hops, and what it said for each recipient.

Hops are tried by preference, equal ones in random order. The next one is tried only while nothing
was handed over: once the final dot may have left us, trying elsewhere could deliver twice.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby

from syncd.layers import NextHop
from syncd.nexthop.answer import Answer, Refused, no_answer
from syncd.nexthop.connect import Route, route_to
from syncd.nexthop.connection import Broken, Connection, TimedOut
from syncd.nexthop.mail import Mail, mail
from syncd.nexthop.pool import Bounds, Pool
from syncd.nexthop.stuffing import stuffed
from syncd.nexthop.timeouts import USUAL, Clock, Timeouts
from syncd.nexthop.transaction import After, Transaction, Turn

OnDot = Callable[[], Awaitable[None]]

A_CONNECTION_A_MAIL = Bounds(idle_per_hop=0)


async def deliver(
    hops: Sequence[NextHop],
    sender: str,
    recipients: Sequence[str],
    message: Sequence[bytes],
    *,
    hostname: str,
    timeouts: Timeouts = USUAL,
    smtputf8: bool = False,
    eight_bit: bool = False,
    on_dot: OnDot | None = None,
    pool: Pool | None = None,
) -> dict[str, Answer]:
    """Hand one mail to the first hop that will speak; the answer for each recipient.

    `message` is the mail in chunks with CRLF line ends, not dot-stuffed; it is not joined, and
    copied only where a line begins with a dot. `sender` is "" for the null sender. `on_dot` is
    awaited at most once, after DATA was accepted and before the first byte of the message leaves; what it
    raises ends the delivery and reaches the caller. Connections come from `pool` and go back to it; without one, a
    connection is made for this mail alone. Raises ValueError for an address with control
    characters, or one that cannot stand between angle brackets; cancelling closes the connection.
    """
    if not hops:
        raise ValueError("a mail needs at least one next hop")
    one = mail(sender, recipients, message, smtputf8=smtputf8, eight_bit=eight_bit)
    if pool is not None:
        return await _deliver(pool, hops, hostname, one, Clock(timeouts), on_dot)
    async with Pool(A_CONNECTION_A_MAIL) as own:
        return await _deliver(own, hops, hostname, one, Clock(timeouts), on_dot)


def in_order(hops: Sequence[NextHop]) -> list[NextHop]:
    """Hops as they are tried: by preference, equal ones shuffled (RFC 5321 section 5.1)."""
    if len(hops) == 1:
        return list(hops)
    ordered: list[NextHop] = []
    for _, equal in groupby(sorted(hops, key=lambda hop: hop.preference), key=lambda hop: hop.preference):
        tied = list(equal)
        random.shuffle(tied)
        ordered += tied
    return ordered


async def _deliver(
    pool: Pool, hops: Sequence[NextHop], hostname: str, mail: Mail, clock: Clock, on_dot: OnDot | None
) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    for hop in in_order(hops):
        answers = await _Attempt(pool, route_to(hop, hostname), mail, clock, on_dot).run()
        if not _another_may_take(answers) or clock.is_up:
            break
    return answers


def _another_may_take(answers: dict[str, Answer]) -> bool:
    """Only when no recipient was taken, refused for good, or handed over with an unknown end."""
    return all(_worth_another_hop(answer) for answer in answers.values())


def _worth_another_hop(answer: Answer) -> bool:
    if answer.unknown or answer.phase == "dot" or answer.taken:
        return False
    return answer.code < 500 or answer.phase == "connect"


class _Attempt:
    """One mail at one hop, over as many connections as it takes before the message has begun to leave."""

    def __init__(self, pool: Pool, route: Route, mail: Mail, clock: Clock, on_dot: OnDot | None) -> None:
        self._pool, self._route, self._mail, self._clock, self._on_dot = pool, route, mail, clock, on_dot
        self._name = f"{route.host}:{route.port}"
        self._fresh = False
        self._pipelined = pool.pipelines(route)

    async def run(self) -> dict[str, Answer]:
        """The answer for every recipient."""
        try:
            transaction = await self._once()
            while self._is_worth_repeating(transaction) and not self._clock.is_up:
                transaction = await self._once()
        except Refused as error:
            return dict.fromkeys(self._mail.recipients, error.answer(self._name, "connect"))
        except Broken as error:
            return dict.fromkeys(self._mail.recipients, no_answer(str(error), self._name, "connect"))
        return transaction.answers

    async def _once(self) -> Transaction:
        """The dialogue over one connection, which is given back as it deserves, cut when cancelled."""
        connection = await self._pool.take(self._route, self._clock, fresh=self._fresh)
        transaction = Transaction(
            self._mail, connection.offers, self._name, pipelined=self._pipelined, reset=connection.leaves_open
        )
        self._was_kept_open = connection.mails > 0
        connection.mails += 1
        after = After.ABORT
        try:
            await self._converse(connection, transaction)
            after, connection.leaves_open = transaction.after, transaction.leaves_open
        finally:
            self._pool.give_back(self._route, connection, after)
        return transaction

    def _is_worth_repeating(self, transaction: Transaction) -> bool:
        """Whether nothing was lost but the connection: each cause once, and never when the message had begun to leave.

        A kept-open connection may have been dead already; a hop that falls out of step while it is pipelined to
        is spoken with step by step.
        """
        if self._was_kept_open and transaction.was_never_heard:
            self._pool.found_stale()
            self._fresh = True
            return True
        if transaction.stalled_pipelined or transaction.fell_out_of_step:
            self._pool.distrust(self._route)
        self._fresh, self._pipelined = True, False
        return transaction.fell_out_of_step

    async def _converse(self, connection: Connection, transaction: Transaction) -> None:
        try:
            connection.write(transaction.begin())
            while transaction.turn is Turn.HEAR:
                say = transaction.heard(await connection.reply(self._clock.command_s()))
                if say:
                    connection.write(say)
            if transaction.turn is Turn.SEND:
                await self._send(connection, transaction)
        except Broken as error:
            transaction.lost(str(error), timed_out=isinstance(error, TimedOut))

    async def _send(self, connection: Connection, transaction: Transaction) -> None:
        if self._on_dot:
            await self._on_dot()
        if not connection.is_usable:
            raise Broken("The next hop is out of step or gone before the message")
        transaction.sending()
        if await connection.send(stuffed(self._mail.message), self._clock.command_s):
            transaction.sent()
        transaction.heard(await connection.reply(self._clock.dot_s()))
