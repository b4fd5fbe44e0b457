"""What we answer at each stage of a session: the handler hooks of the SMTP server."""

import asyncio
import time

from monitoring import log
from monitoring.metrics import mx as metrics
from mx import judging, replies
from mx.address import Mailbox
from mx.filter import Stage
from mx.judge import ROLE_LOCAL_PARTS
from mx.limits import Limits, network_of
from mx.looks import Looks
from mx.pipeline import Pipeline
from mx.policy import Absent, NotKnown
from mx.replies import Reply
from mx.services import KnownPolicy, Services
from mx.transaction import Addressee, Connection, Transaction, TurnedAway, seen
from syncd.nexthop import clean

MAX_TURNED_AWAY = 100
"""Recipients refused in one transaction before the rest get 452: address harvesting."""

_log = log.get(__name__)
_accepted, _refused = metrics.connections.labels("accepted"), metrics.connections.labels("refused")


class Reception:
    """Receives the connections of one worker. Its hooks return the line to speak, as aiosmtpd's do."""

    def __init__(self, services: Services, limits: Limits) -> None:
        self._services = services
        self._limits = limits
        self._pipeline = Pipeline(services)
        self._max_recipients = services.node.smtp.limits.recipients
        self._admitted: set[Connection] = set()
        self._looks: dict[Connection, Looks] = {}
        self._accepting: set[asyncio.Task[str]] = set()

    @property
    def open_connections(self) -> int:
        """Connections that were admitted and have not ended."""
        return len(self._admitted)

    def admit(self, connection: Connection) -> Reply | None:
        """Let a connection in, or the reply that turns it away."""
        refusal = (
            self._limits.admit(network_of(connection.client_ip), time.monotonic())
            if self._services.policies.in_rotation
            else replies.OUT_OF_ROTATION
        )
        (_refused if refusal else _accepted).inc()
        if refusal is None:
            self._admitted.add(connection)
        return refusal

    def error(self, connection: Connection) -> None:
        """The client broke the protocol."""
        connection.errors += 1
        self._limits.error(network_of(connection.client_ip), time.monotonic())

    def gone(self, connection: Connection, txn: Transaction) -> None:
        """The connection has ended. A mail that is being accepted goes its way regardless."""
        if connection not in self._admitted:
            return
        self._admitted.remove(connection)
        looks = self._looks.pop(connection, None)
        self._limits.leave(network_of(connection.client_ip))
        if not txn.is_taken:
            self.abandon(connection, txn)
            if looks:
                looks.close()

    def abandon(self, connection: Connection, txn: Transaction) -> None:
        """The client gave the transaction up: RSET, EHLO, or it left."""
        if txn.is_open and not txn.is_taken:
            txn.is_open = False
            self._pipeline.close(txn, self._pipeline.report(connection, txn), None, "abandoned")
        self._forget(connection, Stage.MAIL)

    async def drained(self) -> None:
        """Return when no mail is being accepted any more."""
        while self._accepting:
            await asyncio.wait(self._accepting)

    async def handle_HELO(self, server: object, connection: Connection, txn: Transaction, name: str) -> None:
        """Note the name; what came of an earlier one is forgotten."""
        connection.host_name = name
        self._forget(connection, Stage.HELO)

    async def handle_MAIL(
        self, server: object, connection: Connection, txn: Transaction, sender: Mailbox, options: list[str]
    ) -> str:
        """Open the transaction."""
        txn.begin(sender)
        txn.mail_options.extend(options)
        return replies.SENDER_OK.line

    async def handle_RCPT(
        self, server: object, connection: Connection, txn: Transaction, mailbox: Mailbox, options: list[str]
    ) -> str:
        """Accept one recipient, or turn it away without a copy."""
        if mailbox.address in txn.rcpt_tos:
            return replies.RECIPIENT_OK.line
        if len(txn.addressees) >= self._max_recipients or len(txn.turned_away) >= MAX_TURNED_AWAY:
            return replies.TOO_MANY_RECIPIENTS.line
        policy, away = self._known(mailbox, txn.policies)
        if policy is None or away:
            return self._turn_away(txn, mailbox, away or (replies.RELAYING_DENIED, "relaying"), policy)
        addressee = Addressee(len(txn.addressees), mailbox, policy)
        early = await self._early(connection, txn, addressee)
        if early:
            return self._turn_away(txn, mailbox, early, policy)
        txn.addressees.append(addressee)
        txn.rcpt_tos.append(mailbox.address)
        self._services.ledger.enter(txn.id)
        return replies.RECIPIENT_OK.line

    async def handle_DATA(self, server: object, connection: Connection, txn: Transaction) -> str:
        """Take the message through the pipeline. Shielded: a client that leaves after its dot stops nothing."""
        txn.is_taken = True
        looks = self._looks_of(connection)
        task = asyncio.create_task(self._accept(connection, txn, looks), name=f"accept {txn.id}")
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)
        return await asyncio.shield(task)

    def unfit(self, connection: Connection, txn: Transaction, reply: Reply, cause: str) -> str:
        """The message cannot be taken as it came (too big, bare newlines): refused without a copy."""
        txn.is_open = False
        self._pipeline.close(txn, self._pipeline.report(connection, txn), reply, cause)
        self._forget(connection, Stage.MAIL)
        return reply.line

    async def _accept(self, connection: Connection, txn: Transaction, looks: Looks) -> str:
        reply = await self._pipeline.accept(connection, txn, looks)
        txn.is_open = False
        txn.let_go()
        looks.forget(Stage.MAIL)
        if connection not in self._admitted:
            looks.close()
        return reply.line

    def _known(
        self, mailbox: Mailbox, found: dict[str, KnownPolicy]
    ) -> tuple[KnownPolicy | None, tuple[Reply, str] | None]:
        """The recipient's policy, and why to turn it away. A miss is never a no (promise 3)."""
        if not mailbox.domain:
            return (
                None,
                None,
            )  # RFC 5321 section 4.5.1 wants <postmaster> taken; a relay without mailboxes has nobody to give it to
        try:
            domain_policy = found.get(mailbox.domain) or self._services.policies.find(mailbox.domain)
            if isinstance(domain_policy, Absent):
                return None, None
            found[mailbox.domain] = domain_policy
            policy: KnownPolicy = domain_policy.for_recipient(mailbox.local_part)
            return policy, self._unknown(policy, mailbox)
        except (NotKnown, KeyError) as error:
            _log.warning("settings_not_known", domain=mailbox.domain, error=str(error))
            return None, (replies.NOT_KNOWN, "not_known")

    def _unknown(self, policy: KnownPolicy, mailbox: Mailbox) -> tuple[Reply, str] | None:
        local_part = mailbox.local_part.lower()
        if local_part in ROLE_LOCAL_PARTS:
            return None
        if policy.lists.listed(local_part) is False:
            return replies.UNKNOWN_USER, "unknown_user"
        if self._services.policies.is_remembered_unknown(policy.domain, local_part):
            return replies.UNKNOWN_USER, "unknown_user"
        return None

    async def _early(self, connection: Connection, txn: Transaction, addressee: Addressee) -> tuple[Reply, str] | None:
        node, looks = self._services.node, self._looks_of(connection)
        facts = seen(node.name, node.smtp.hostname, connection, txn)
        judging.begin(looks, addressee, facts)
        decision = await judging.decide_early(self._services, looks, addressee, facts)
        if decision is None:
            return None
        verdict = decision.verdict
        return Reply(verdict.code, verdict.enhanced, clean(verdict.text)), decision.by

    def _turn_away(
        self, txn: Transaction, mailbox: Mailbox, away: tuple[Reply, str], policy: KnownPolicy | None
    ) -> str:
        reply, reason = away
        txn.turned_away.append(TurnedAway(mailbox.address, mailbox.domain, reply, reason, policy))
        return reply.line

    def _looks_of(self, connection: Connection) -> Looks:
        """The looks of a connection; most connections of a crowd never need any."""
        looks = self._looks.get(connection)
        if looks is None:
            looks = self._looks[connection] = Looks(self._services)
        return looks

    def _forget(self, connection: Connection, since: Stage) -> None:
        if looks := self._looks.get(connection):
            looks.forget(since)
