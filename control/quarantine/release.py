"""Asks for kept mail to be delivered: one job an item, however often and from wherever it is asked.

The job is committed before anybody is told of it; the janitor delivers (`control.delivery`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from ulid import ULID

from control.auth import Viewer
from control.quarantine import acts, items, rights, senders
from control.quarantine.items import Kept
from control.quarantine.senders import Breadth
from control.quarantine.words import clean
from control.store import audit, names
from control.store.errors import Invalid, Missing

CHANNEL = "mxfleet_jobs"
"""LISTEN here to hear of new work at once; what is missed is found by looking."""
HELD_S = 5.0
"""How long a person's release is held, so that it can be taken back."""
LONGEST_HOLD_S = 60.0
LONGEST_LOCAL_PART = 64
"""RFC 5321 section 4.5.3.1.1."""
_COLUMNS = (
    "id, item, state, outcome, dot_sent, created_by, created_at, started_at, ended_at, not_before, recipient,"
    " coalesce((select a.id from acts a where a.item = j.item and a.detail->>'job' = j.id and a.undone_at is null"
    " order by a.id desc limit 1), '') as act_id"
)
_LOCK = "select pg_advisory_xact_lock(hashtextextended('release ' || $1, 0))"


@dataclass(frozen=True, slots=True)
class Job:
    """One delivery of one item.

    `state` is queued, running, done, failed (it was not delivered), unknown (the dialogue broke after the mail was
    sent, so that it may have been), or cancelled (taken back in time); `outcome` says how it went in words. A queued
    one starts at `not_before`. `recipient` is another address that it goes to, "" for the item's own; `act_id` the
    act that can be undone, "" when there is none.
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
    not_before: datetime | None = None
    recipient: str = ""
    act_id: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in ("queued", "running")


async def request(pool: Any, viewer: Viewer, item_id: str, options: Mapping[str, Any]) -> str:
    """Have an item delivered to its recipient past the filters; returns the id of the job that does it.

    An open job is returned again, and so is one that delivered, or may have. Only `options["again"]`, which names the
    job to repeat, makes a new one then: a second click on a page that shows the end of the first can never deliver
    twice. A job that failed or was taken back is followed by a new one. The options: `allow` ("sender" or "domain")
    has the sender on the domain's allow list from now on, as has `allow_sender`; `to` is another address of the same
    account that gets it instead; `hold_s` seconds pass before it starts; `train` (it is no spam) is written down.

    Raises Missing, Forbidden (the reason is not theirs to release), and Invalid where the sender cannot be allowed,
    or the address is none of the account's.
    """
    kept = await items.get(pool, viewer, item_id)
    if kept is None:
        raise Missing("there is no such mail")
    rights.check(viewer, kept.reason)
    recipient = await another(pool, kept, str(options.get("to") or ""))
    breadth: Breadth = "domain" if options.get("allow") == "domain" else "sender"
    listed: dict[str, Any] = {}
    if options.get("allow") or options.get("allow_sender"):
        listed = await senders.enlist(pool, viewer, kept, "allow", breadth, "allow_sender")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_LOCK, kept.id)
        last = await _latest(connection, kept.id, recipient)
        if last is not None and not repeats(last, str(options.get("again") or "")):
            if listed:
                await acts.note(connection, viewer, kept, "release", {"job": last.id, **listed})
            return last.id
        return await _queue(connection, viewer, kept, {**options, "to": recipient}, listed)


async def another(pool: Any, kept: Kept, typed: str) -> str:
    """The other address that a mail is to go to, as it is written down; "" for the mail's own recipient.

    Raises Invalid for what is no address, or is none of the domains of the mail's account.
    """
    if not typed.strip():
        return ""
    local, at, domain = typed.strip().rpartition("@")
    if not at or not local or len(local) > LONGEST_LOCAL_PART or not local.isprintable() or " " in local:
        raise Invalid("to", "must be an address like name@your-domain.test")
    name = names.domain(domain, "to")
    owned = await pool.fetchval("select true from domains where name = $1 and account_id = $2", name, kept.account_id)
    if not owned:
        raise Invalid("to", f"{name} is none of this account's domains; mail is delivered to those alone")
    address = f"{local}@{name}"
    return "" if address == kept.recipient else address


def repeats(last: Job, again: str) -> bool:
    """Whether asking once more makes another job after this one. Pure."""
    return last.state in ("failed", "cancelled") or (not last.is_open and again == last.id)


async def job(pool: Any, viewer: Viewer, job_id: str) -> Job | None:
    """A job; None for a stranger's as for none."""
    row = await pool.fetchrow(
        f"select {_COLUMNS} from jobs j where id = $1 and ($2::text is null or account_id = $2)",
        clean(job_id),
        viewer.account_id,
    )
    return Job(**dict(row)) if row else None


async def latest(pool: Any, kept: Kept) -> Job | None:
    """The last job of an item that the viewer was shown; None when it was never asked for."""
    return await _latest(pool, kept.id)


async def _latest(connection: Any, item_id: str, recipient: str | None = None) -> Job | None:
    row = await connection.fetchrow(
        f"select {_COLUMNS} from jobs j where item = $1 and act = 'release' and ($2::text is null or recipient = $2)"
        " order by id desc limit 1",
        item_id,
        recipient,
    )
    return Job(**dict(row)) if row else None


async def _queue(
    connection: Any, viewer: Viewer, kept: Kept, options: Mapping[str, Any], listed: Mapping[str, Any]
) -> str:
    job_id = str(ULID())
    told = {name: options[name] for name in ("allow_sender", "allow", "train", "again") if options.get(name)}
    await connection.execute(
        "insert into jobs (id, account_id, act, item, options, created_by, not_before, recipient)"
        " values ($1, $2, 'release', $3, $4::text::jsonb, $5, now() + $6::interval, $7)",
        job_id,
        kept.account_id,
        kept.id,
        msgspec.json.encode(told).decode(),
        viewer.author,
        timedelta(seconds=min(LONGEST_HOLD_S, max(0.0, float(options.get("hold_s") or 0)))),
        options["to"],
    )
    await acts.note(connection, viewer, kept, "release", {"job": job_id, **listed})
    address = options["to"] or kept.recipient
    await audit.note(connection, viewer, "release", kept.id, job=job_id, recipient=address, **told)
    await connection.execute("select pg_notify($1, $2)", CHANNEL, job_id)
    return job_id
