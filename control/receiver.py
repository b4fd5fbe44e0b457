"""The receiver's process on the control host: holds what nodes ship, and puts it into packs and PostgreSQL.

It starts and holds while PostgreSQL is away; what is held then is stored when it is back. `/ready` says what is amiss.
"""

import asyncio
import signal
from pathlib import Path

import uvloop

from control.quarantine import packs
from control.quarantine.ingest import Ingest
from control.quarantine.objects import Away, Gone
from control.quarantine.pack_writer import PackWriter
from control.quarantine.packs import Packs
from control.quarantine.session import Session
from monitoring import log
from monitoring.exporter import Exporter
from monitoring.metrics import control as metrics
from syncd.config import Control
from syncd.spool.receive import Receiver
from syncd.spool.stream import NotNow

LOOK_S = 5.0
"""Between looks at PostgreSQL: whether it is there, and whether partitions are ready."""
SEAL_S = 30.0

_log = log.get(__name__)


def run(settings: Control, *, metrics_port: int) -> None:
    """Receive until SIGTERM or SIGINT. What is not stored by then stays in the journal."""
    uvloop.run(_run(settings, metrics_port))


async def _run(settings: Control, metrics_port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    place = packs.open(settings)
    writer = PackWriter(place, await _dictionary(place))
    session = Session(settings.database)
    ingest = Ingest(session, writer)
    journal = Path(settings.receiver_journal_dir)
    receiver = Receiver(journal, ingest, settings.tls, settings.receiver_host, settings.receiver_port)
    metrics.receiver_backlog.set_function(lambda: receiver.backlog)
    exporter = Exporter(settings.metrics_host, metrics_port, lambda: _amiss(receiver, ingest))
    try:
        async with asyncio.TaskGroup() as tasks:
            work = (receiver.run(), _look(ingest), _seal(writer), exporter.beat())
            beside = [tasks.create_task(each) for each in work]
            await stop.wait()
            for task in beside:
                task.cancel()
    finally:
        session.close()
        writer.close()
        exporter.close()


def _amiss(receiver: Receiver, ingest: Ingest) -> str:
    """Why mail is not held, or held and not stored; "" when all is well. Called by the exporter's thread."""
    if not receiver.ready.is_set():
        return "reading the journal, not listening yet"
    return ingest.trouble and f"mail is held, not stored: {ingest.trouble}"


async def _dictionary(place: Packs) -> bytes:
    """The dictionary to compress with; none while the object store is away: packs do without."""
    try:
        return await place.newest_dictionary()
    except (Away, Gone) as error:
        _log.warning("no_dictionary", error=str(error))
        return b""


async def _look(ingest: Ingest) -> None:
    """Keep partitions ahead of the days, and know whether anything can be stored before mail asks."""
    while True:
        before = ingest.trouble
        try:
            await ingest.keep_ahead()
            if before:
                _log.info("storing")
        except NotNow as error:
            if ingest.trouble != before:
                _log.warning("not_storing", error=str(error))
        await asyncio.sleep(LOOK_S)


async def _seal(writer: PackWriter) -> None:
    """Move packs that are full or past into the object store; what it does not take waits on the disk."""
    while True:
        try:
            await writer.seal()
        except (Away, OSError) as error:
            _log.warning("packs_not_sealed", error=str(error))
        await asyncio.sleep(SEAL_S)
