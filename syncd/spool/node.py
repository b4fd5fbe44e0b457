"""The spool of one node: its own streams, what it holds for peers, the socket for its workers, its figures."""

import asyncio
import secrets
import time
from collections.abc import Collection
from pathlib import Path

from monitoring import log
from monitoring.metrics import syncd as metrics
from syncd import config
from syncd.spool import identity
from syncd.spool.hold import ASIDE, HeldStream, Holding, is_epoch
from syncd.spool.identity import Identity
from syncd.spool.journal import Journal, Kept, NotWritten
from syncd.spool.link import Target
from syncd.spool.members import Members
from syncd.spool.messages import ANSWER_MARGIN_S, Item, Purpose
from syncd.spool.origin import Origin
from syncd.spool.ranges import Positions
from syncd.spool.recover import count_aside
from syncd.spool.room import Room
from syncd.spool.serve import Server
from syncd.spool.stream import Ranges, Stream
from syncd.spool.submit import Refusal, Submissions
from syncd.spool.takeover import SILENT_S, Takeovers

OWN, HELD = "own", "held"
EPOCH_BYTES = 16
MAX_MEMORY_BYTES = 256 * 1024**2
"""Content that waits for its disk beyond what is kept in memory anyway; over it new records are refused."""
SHOW_S = 0.5

_log = log.get(__name__)


class Spool:
    """Everything the spool process of a node does. `run` it until cancelled."""

    def __init__(self, node: config.Node, *, takeover_after_s: float = SILENT_S) -> None:
        """Raises OSError when the certificate's files cannot be loaded, or the journal's directory cannot be made."""
        self._config = node.spool
        root = Path(node.spool.journal_dir)
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._own, self._aside = root / OWN, root / ASIDE
        self._room = Room(root)
        self._identity = Identity(node.tls)
        self._members = Members(node.name, node.state_dir)
        self._receiver = Target("receiver", node.spool.receiver_host, node.spool.receiver_port, identity.RECEIVER)
        self._holding = Holding(root / HELD, self._room, self._aside)
        self._server = Server(node.spool.host, node.spool.port, self._identity, self._holding, self, node.name)
        self._takeovers = Takeovers(self._holding, self._server, self._receiver, self._identity, takeover_after_s)
        self._submissions = Submissions(node.spool.socket, self)
        stream = Stream(node.name, secrets.token_hex(EPOCH_BYTES))
        self._current = self._origin(Journal(self._own / stream.epoch, stream, self._room, self._aside), True)
        self._origins = [self._current]
        self._unread = 1
        """Older epochs that are not read yet; at least the question whether there are any."""
        self._broken = "the journal is not open yet"

    @property
    def purposes(self) -> Collection[Purpose]:
        """What other nodes may ask of a node."""
        return (Purpose.COPY,)

    @property
    def records(self) -> int:
        """What the receiver has to settle of our own streams, events too; not 0 while that is not known."""
        journals = [origin.journal for origin in self._origins]
        return self._unread + sum(len(journal.records) + len(journal.withdrawn) for journal in journals)

    @property
    def held_for_others(self) -> int:
        """Records of peers that are held here."""
        return self._holding.count

    def ready(self) -> str:
        """Why records cannot be taken; "" when they can."""
        return self._broken or self._room.lacks()

    async def run(self) -> None:
        """Serve until cancelled; then workers are answered first. Raises OSError when a port or the socket is taken."""
        self._members.look()
        await self._prove_writable()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._current.run())
            tasks.create_task(self._members.follow())
            tasks.create_task(self._hold())
            tasks.create_task(self._ship_older(tasks))
            tasks.create_task(self._show())
            await self._submissions.run()

    async def secure(self, item: Item, content: bytes, by: float) -> Kept:
        """See `syncd.spool.submit.Secures`."""
        by = min(by, time.monotonic() + self._config.secure_timeout_s)
        if (within_s := by - time.monotonic()) <= 0:
            raise Refusal("its time was up when it was read")
        self._refuse_without_room(item)
        kept, on_disk, elsewhere = self._current.take(item, content)
        try:
            async with asyncio.timeout(within_s):
                await on_disk
                await elsewhere
        except NotWritten as error:
            self._broken = str(error)
            raise Refusal(str(error)) from error
        except TimeoutError as error:
            self._answer_late(kept, by, within_s, error)
        except asyncio.CancelledError:
            self._current.withdraw(kept)
            raise
        if time.monotonic() > by + ANSWER_MARGIN_S:  # frozen meanwhile: the worker has given up, its word is under way
            self._current.withdraw(kept)
            raise Refusal("it was secured too late")
        self._broken = ""
        return kept

    def _answer_late(self, kept: Kept, by: float, within_s: float, error: TimeoutError) -> None:
        """What holds for a record whose second copy did not come in time. Raises Refusal."""
        if kept.place and self._config.when_not_secured == "answer":
            metrics.spool_alone.inc()
            _log.error("secured_with_one_copy", position=kept.item.number)
            return
        self._current.withdraw(kept)
        why = "no other host holds it" if kept.place else "it is not on this disk"
        raise Refusal(f"{why} after {within_s:.2f} s") from error

    def give_up(self, kept: Kept) -> None:
        """See `syncd.spool.submit.Secures`."""
        self._current.withdraw(kept)

    async def note(self, item: Item, content: bytes) -> None:
        """See `syncd.spool.submit.Secures`."""
        self._refuse_without_room(item)
        try:
            await self._current.take(item, content)[1]
        except NotWritten as error:
            self._broken = str(error)
            raise Refusal(str(error)) from error
        self._broken = ""

    async def stored(self, stream: Stream) -> Ranges:
        """See `syncd.spool.serve.Keeper`: a peer stores nothing."""
        return ()

    def kept(self, held: HeldStream, position: int) -> None:
        """See `syncd.spool.serve.Keeper`: a peer does nothing with what it holds."""

    def withdrawn(self, held: HeldStream, positions: Positions) -> None:
        """See `syncd.spool.serve.Keeper`."""
        held.withdraw(positions)

    def _refuse_without_room(self, item: Item) -> None:
        if lacking := self._room.lacks(item.content_bytes):
            raise Refusal(lacking)
        if self._room.memory_left < -MAX_MEMORY_BYTES:
            raise Refusal("too much waits for the disk")

    def _origin(self, journal: Journal, is_current: bool) -> Origin:
        return Origin(journal, self._receiver, self._members.peers, self._identity, is_current=is_current)

    async def _prove_writable(self) -> None:
        try:
            await asyncio.to_thread(self._current.journal.open)
            self._broken = ""
        except OSError as error:
            self._broken = f"the journal cannot be written: {error}"
            _log.error("journal_not_writable", error=str(error))

    async def _hold(self) -> None:
        """Serve peers, once what earlier runs held for them is known."""
        await asyncio.to_thread(self._holding.load)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._server.run())
                tasks.create_task(self._takeovers.run())
        finally:
            await self._holding.close()

    async def _ship_older(self, tasks: asyncio.TaskGroup) -> None:
        """Find what earlier runs left unreleased, the oldest first, and ship it."""
        older = [path for path in self._own.glob("*") if is_epoch(path.name) and path.name != self._epoch]
        older.sort(key=lambda path: path.stat().st_mtime)
        self._unread = len(older)
        for path in older:
            stream = Stream(self._current.stream.node, path.name)
            journal = await asyncio.to_thread(Journal.load, path, stream, self._room, self._aside)
            if journal.has_unsettled:
                _log.info("older_epoch", epoch=path.name, records=len(journal.records))
                tasks.create_task(self._ship_one(self._origin(journal, False)))
            else:
                await journal.close()
            self._unread -= 1

    async def _ship_one(self, origin: Origin) -> None:
        self._origins.append(origin)
        await origin.run()
        self._origins.remove(origin)

    @property
    def _epoch(self) -> str:
        return self._current.stream.epoch

    async def _show(self) -> None:
        """Keep the figures. Look again whether the disk takes bytes while it did not."""
        metrics.spool_records.set_function(lambda: self.records)
        metrics.spool_unreplicated_bytes.set_function(lambda: sum(origin.alone_bytes for origin in self._origins))
        metrics.spool_held_foreign.set_function(lambda: self.held_for_others)
        while True:
            if self._broken and not self._room.lacks():
                await self._prove_writable()
            journals = [origin.journal for origin in self._origins]
            metrics.spool_bytes.set(sum(journal.live_bytes for journal in journals))
            oldest = min((at for journal in journals if (at := journal.oldest_at)), default=0.0)
            metrics.spool_oldest_seconds.set(max(0.0, time.time() - oldest) if oldest else 0.0)
            metrics.spool_disk_free_bytes.set(self._room.free_bytes)
            metrics.spool_set_aside.set(await asyncio.to_thread(count_aside, self._aside))
            await asyncio.sleep(SHOW_S)
