"""Acts on one kept mail beside its release: delete, block and delete, restore, undo; and who did what with it.

Each is one transaction, does nothing when it was done already, and is written into the item's history.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from ulid import ULID

from control.auth import Viewer
from control.quarantine import bin, items, jobs, senders
from control.quarantine.items import Kept
from control.quarantine.senders import Breadth
from control.quarantine.words import clean
from control.store import audit
from control.store.errors import Forbidden, Missing, TooLate

ON_HOLD = "this mail is on hold: it is kept until the hold is taken off"
MOST_EVENTS = 200
_COLUMNS = "id, item, account_id, act, author, door, at, detail::text, undone_at"


@dataclass(frozen=True, slots=True)
class Act:
    """What was done with one item; `detail` holds what is needed to take it back."""

    id: str
    item: str
    account_id: str
    act: str
    author: str
    door: str
    at: datetime
    detail: Mapping[str, Any]
    undone_at: datetime | None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of an item's history."""

    at: datetime
    author: str
    door: str
    act: str
    detail: Mapping[str, Any]


async def delete(pool: Any, viewer: Viewer, item_id: str) -> str:
    """Put a mail into the bin; returns the id of the act, the first one's when it lies there already.

    Raises Missing, and Forbidden for mail on hold.
    """
    return await _delete(pool, viewer, await _found(pool, viewer, item_id), "delete", {})


async def block(pool: Any, viewer: Viewer, item_id: str, breadth: Breadth = "sender") -> str:
    """Refuse the sender (or its whole domain) from now on, and put the mail into the bin; returns the id of the act.

    Raises Missing, Forbidden, and Invalid for a sender that cannot be on a list. Cut between the two, it is
    completed by asking again.
    """
    kept = await _found(pool, viewer, item_id)
    if kept.on_hold:
        raise Forbidden(ON_HOLD)
    listed = await senders.enlist(pool, viewer, kept, "deny", breadth or "sender", "block")
    return await _delete(pool, viewer, kept, "block", listed)


async def restore(pool: Any, viewer: Viewer, item_id: str) -> None:
    """Take a mail out of the bin; harmless for one that is not in it. Raises Missing."""
    kept = await _found(pool, viewer, item_id)
    async with pool.acquire() as connection, connection.transaction():
        if await bin.restore(connection, [(kept.received_at, kept.id)]):
            await audit.note(connection, viewer, "restore", kept.id)


async def undo(pool: Any, viewer: Viewer, act_id: str) -> Act:
    """Take an act back with all that it did; harmless again.

    A release is taken back until it begins. Raises Missing, and TooLate.
    """
    async with pool.acquire() as connection, connection.transaction():
        act = await _act(connection, viewer, act_id)
        if act.undone_at is None:
            await _take_back(connection, act)
            await connection.execute(
                "update acts set undone_at = now(), undone_by = $2 where id = $1", act.id, viewer.author
            )
            await audit.note(connection, viewer, f"undo {act.act}", act.item)
    kept = await items.get(pool, viewer, act.item, binned=True)
    if kept is not None and kept.served:
        await senders.withdraw(pool, viewer, kept.served, act.detail)
    return act


async def act(pool: Any, viewer: Viewer, act_id: str) -> Act:
    """An act. Raises Missing."""
    return await _act(pool, viewer, act_id, lock="")


async def note(connection: Any, viewer: Viewer, kept: Kept, what: str, detail: Mapping[str, Any]) -> str:
    """Write down an act that can be taken back, in the caller's transaction; returns its id."""
    act_id = str(ULID())
    await connection.execute(
        "insert into acts (id, item, account_id, act, author, door, detail)"
        " values ($1, $2, $3, $4, $5, $6, $7::text::jsonb)",
        act_id,
        kept.id,
        kept.account_id,
        what,
        viewer.author,
        viewer.door,
        msgspec.json.encode(detail).decode(),
    )
    return act_id


async def viewed(pool: Any, viewer: Viewer, item_id: str, what: str = "view") -> None:
    """Write down that somebody looked at a mail (or downloaded it); once an hour for one person is enough."""
    await pool.execute(
        "insert into audit (account_id, author, door, act, object) select $1, $2, $3, $4, $5 where not exists"
        " (select from audit where object = $5 and act = $4 and author = $2 and at > now() - interval '1 hour')",
        viewer.account_id,
        viewer.author,
        viewer.door,
        what,
        item_id,
    )


async def history(pool: Any, kept: Kept) -> list[Event]:
    """Who viewed, released, deleted an item that the viewer was shown, newest first."""
    found = await pool.fetch(
        "select at, author, door, act, detail::text from audit where object = $1 order by at desc limit $2",
        kept.id,
        MOST_EVENTS,
    )
    return [Event(**{**dict(row), "detail": msgspec.json.decode(row["detail"])}) for row in found]


async def _found(pool: Any, viewer: Viewer, item_id: str) -> Kept:
    kept = await items.get(pool, viewer, item_id, binned=True)
    if kept is None:
        raise Missing("there is no such mail")
    return kept


async def _delete(pool: Any, viewer: Viewer, kept: Kept, what: str, detail: Mapping[str, Any]) -> str:
    key = kept.received_at, kept.id
    async with pool.acquire() as connection, connection.transaction():
        if await bin.delete(connection, [key]):
            await audit.note(connection, viewer, what, kept.id, **{"listed": detail["listed"]} if detail else {})
            return await note(connection, viewer, kept, what, detail)
        state = (await bin.states(connection, [key])).get(kept.id)
        if state is None:
            raise Missing("there is no such mail")
        if state[0] != "deleted":
            raise Forbidden(ON_HOLD)
        last = await connection.fetchval(
            "select id from acts where item = $1 and act in ('delete', 'block') and undone_at is null"
            " order by id desc limit 1",
            kept.id,
        )
        # One that a bulk act deleted has no act of its own: this one stands for it, so that there is an undo.
        return last if last and not detail else await note(connection, viewer, kept, what, detail)


async def _act(connection: Any, viewer: Viewer, act_id: str, lock: str = " for update") -> Act:
    row = await connection.fetchrow(
        f"select {_COLUMNS} from acts where id = $1 and ($2::text is null or account_id = $2){lock}",
        clean(act_id),
        viewer.account_id,
    )
    if row is None:
        raise Missing("there is no such act")
    return Act(**{**dict(row), "detail": msgspec.json.decode(row["detail"])})


async def _take_back(connection: Any, act: Act) -> None:
    if act.act == "release":
        if not await jobs.cancel(connection, act.detail.get("job", "")):
            state = await connection.fetchval("select state from jobs where id = $1", act.detail.get("job", ""))
            if state not in (None, "cancelled", "failed"):
                raise TooLate("the delivery has begun and cannot be taken back")
        return
    found = await connection.fetch("select received_at, id from quarantine where id = $1", act.item)
    await bin.restore(connection, [(row["received_at"], row["id"]) for row in found])
