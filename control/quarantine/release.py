"""Asks for kept mail to be delivered: one job an item, however often and from wherever it is asked.

The job is committed before anybody is told of it; the janitor delivers (`control.delivery`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from ulid import ULID

from control.auth import Viewer
from control.quarantine import items
from control.quarantine.items import Kept
from control.quarantine.words import clean
from control.store import audit, lists
from control.store.errors import Invalid, Missing
from control.store.lists import Wanted

CHANNEL = "mxfleet_jobs"
"""LISTEN here to hear of new work at once; what is missed is found by looking."""
_COLUMNS = "id, item, state, outcome, dot_sent, created_by, created_at, started_at, ended_at"
_LOCK = "select pg_advisory_xact_lock(hashtextextended('release ' || $1, 0))"


@dataclass(frozen=True, slots=True)
class Job:
    """One delivery of one item.

    `state` is queued, running, done, failed (it was not delivered), or unknown (the dialogue broke after the mail was
    sent, so that it may have been); `outcome` says how it went in words.
    """

    id: str
    item: str
    state: str
    outcome: str
    dot_sent: bool
    created_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in ("queued", "running")


async def request(pool: Any, viewer: Viewer, item_id: str, options: Mapping[str, Any]) -> str:
    """Have an item delivered to its recipient past the filters; returns the id of the job that does it.

    An open job is returned again, and so is one that delivered, or may have. Only `options["again"]`, which names the
    job to repeat, makes a new one then: a second click on a page that shows the end of the first can never deliver
    twice. A job that failed is followed by a new one. `allow_sender` has the sender on the domain's allow list from
    now on; `train` is written down. Raises Missing, and Invalid where the sender cannot be allowed.
    """
    kept = await items.get(pool, viewer, item_id)
    if kept is None:
        raise Missing("there is no such mail")
    if options.get("allow_sender"):
        await _allow(pool, viewer, kept)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_LOCK, kept.id)
        last = await _latest(connection, kept.id)
        if last is not None and not repeats(last, str(options.get("again") or "")):
            return last.id
        return await _queue(connection, viewer, kept, options)


def repeats(last: Job, again: str) -> bool:
    """Whether asking once more makes another job after this one. Pure."""
    return last.state == "failed" or (not last.is_open and again == last.id)


async def job(pool: Any, viewer: Viewer, job_id: str) -> Job | None:
    """A job; None for a stranger's as for none."""
    row = await pool.fetchrow(
        f"select {_COLUMNS} from jobs where id = $1 and ($2::text is null or account_id = $2)",
        clean(job_id),
        viewer.account_id,
    )
    return Job(**dict(row)) if row else None


async def latest(pool: Any, kept: Kept) -> Job | None:
    """The last job of an item that the viewer was shown; None when it was never asked for."""
    return await _latest(pool, kept.id)


async def _latest(connection: Any, item_id: str) -> Job | None:
    row = await connection.fetchrow(
        f"select {_COLUMNS} from jobs where item = $1 and act = 'release' order by id desc limit 1", item_id
    )
    return Job(**dict(row)) if row else None


async def _queue(connection: Any, viewer: Viewer, kept: Kept, options: Mapping[str, Any]) -> str:
    job_id = str(ULID())
    told = {name: options[name] for name in ("allow_sender", "train", "again") if options.get(name)}
    await connection.execute(
        "insert into jobs (id, account_id, act, item, options, created_by)"
        " values ($1, $2, 'release', $3, $4::text::jsonb, $5)",
        job_id,
        kept.account_id,
        kept.id,
        msgspec.json.encode(told).decode(),
        viewer.author,
    )
    await audit.note(connection, viewer, "release", kept.id, job=job_id, recipient=kept.recipient, **told)
    await connection.execute("select pg_notify($1, $2)", CHANNEL, job_id)
    return job_id


async def _allow(pool: Any, viewer: Viewer, kept: Kept) -> None:
    """Have the sender on the allow list of the recipient's domain; one that is there already stays as it is."""
    if not kept.sender:
        raise Invalid("allow_sender", "this mail has no sender that could be allowed: it is a bounce or a notice")
    if not kept.served:
        raise Invalid("allow_sender", f"{kept.domain} is not served here any more")
    try:
        wanted = Wanted("allow", kept.sender, note="released from the quarantine").checked()
    except Invalid as error:
        raise Invalid("allow_sender", f"this sender cannot be on a list: {error.reason}") from error
    row = await pool.fetchrow(
        "select kind, expires from entries where scope = 'domain' and name = $1 and match = $2",
        kept.served,
        wanted.match,
    )
    if row is None or row["kind"] != "allow" or row["expires"] is not None:
        await lists.add(pool, viewer, "domain", kept.served, wanted, instead=True)
