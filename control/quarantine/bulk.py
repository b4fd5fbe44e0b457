"""One act over everything that a search finds, or over chosen items: begun, followed, cancelled, resumed, undone.

The janitor carries it out (`control.quarantine.bulk_steps`): first it writes down, page by page, which items are
meant, then it acts on each. Every step is one transaction, so that an end at any point loses and repeats nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import msgspec
from ulid import ULID

from control.auth import Viewer
from control.quarantine import items, search
from control.quarantine.conditions import is_id
from control.quarantine.release import CHANNEL
from control.quarantine.search import Query
from control.quarantine.words import clean
from control.store import audit
from control.store.errors import Invalid, Missing, TooLate

Act = Literal["release", "delete", "restore", "export"]
ACTS: tuple[str, ...] = get_args(Act)
MOST_CHOSEN = 1_000
"""Items that are named one by one; more is a search."""
PREVIEW_PAGES = 20
"""Pages that a preview counts exactly; behind them it says "more than"."""
KEPT = timedelta(days=31)
FAILURES_SHOWN = 100
OPEN = ("listing", "running", "undoing")
_COLUMNS = "id, account_id, act, state, options::text, not_before, error, created_at, ended_at, author, listed"
_VISIBLE = "id = $1 and ($2::text is null or account_id = $2)"
_COUNTS = (
    "select coalesce(case when i.outcome <> 'queued' then i.outcome when j.state = 'done' then 'done'"
    " when j.state = 'cancelled' then 'cancelled' when j.state in ('failed', 'unknown') then 'failed' else 'queued'"
    " end, i.outcome) as outcome, count(*) as mails from bulk_act_items i"
    " left join jobs j on i.outcome = 'queued' and j.bulk = i.bulk and j.item = i.item where i.bulk = $1 group by 1"
)


@dataclass(frozen=True, slots=True)
class Failure:
    """An item on which it could not be done, and why."""

    item: str
    reason: str


@dataclass(frozen=True, slots=True)
class Bulk:
    """How far it is. `counts` are items by outcome: waiting, queued, done, same (it was so already), failed,
    cancelled, undone; `total` is final once `listed`. `state`: listing, running, done, cancelled, undoing, undone,
    failed (the search could not be read; `error` says why). Nothing begins before `not_before`.
    """

    id: str
    account_id: str | None
    act: str
    state: str
    options: Mapping[str, Any]
    not_before: datetime
    error: str
    created_at: datetime
    ended_at: datetime | None
    author: str
    listed: bool
    counts: Mapping[str, int]
    failures: Sequence[Failure]

    @property
    def total(self) -> int:
        """Items that are meant, as far as they are written down."""
        return sum(self.counts.values())

    @property
    def is_open(self) -> bool:
        """Whether the janitor has still to do with it."""
        return self.state in OPEN


@dataclass(frozen=True, slots=True)
class Preview:
    """How many items a search finds now; `exact` False means that there are more than `count`."""

    count: int
    exact: bool


async def preview(pool: Any, viewer: Viewer, query: Query) -> Preview:
    """Count what would be meant. Raises ValueError as `search.search` does."""
    count, page = 0, replace(query, limit=search.LONGEST_PAGE, cursor=None)
    for _ in range(PREVIEW_PAGES):
        found = await search.search(pool, viewer, page)
        count += len(found.items)
        if found.next is None:
            return Preview(count, True)
        page = replace(page, cursor=found.next)
    return Preview(count, False)


async def begin(
    pool: Any,
    viewer: Viewer,
    act: Act,
    *,
    query: Query | None = None,
    chosen: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    hold_s: float = 0.0,
) -> str:
    """Begin it; returns its id. With `chosen`, those items; else all that the query finds of what was received by now.

    Raises Invalid for both or neither, and ValueError for a query that cannot be read.
    """
    if (query is None) is (not chosen):
        raise Invalid("query", "name either a query or items")
    if len(chosen) > MOST_CHOSEN:
        raise Invalid("items", f"name at most {MOST_CHOSEN} items, or a query")
    told: dict[str, Any] = {}
    if query is not None:
        query = meant(query, act, datetime.now(UTC))
        await search.search(pool, viewer, replace(query, limit=1))
        told = {name: value for name in Query.__slots__ if (value := getattr(query, name)) is not None}
    keys = [await _key(pool, viewer, item) for item in dict.fromkeys(chosen)]
    bulk_id = str(ULID())
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "insert into bulk_acts (id, account_id, author, role, door, act, query, options, not_before, listed, state)"
            " values ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8::text::jsonb, now() + $9::interval, $10, $11)",
            bulk_id,
            viewer.account_id,
            viewer.author,
            viewer.role,
            viewer.door,
            act,
            msgspec.json.encode(told).decode(),
            msgspec.json.encode(options or {}).decode(),
            timedelta(seconds=hold_s),
            bool(chosen),
            "running" if chosen else "listing",
        )
        await connection.execute(
            "insert into bulk_act_items (bulk, n, item, received_at)"
            " select $1, number, item, at from unnest($2::text[], $3::timestamptz[]) with ordinality"
            " as chosen (item, at, number)",
            bulk_id,
            [item for _, item in keys],
            [at for at, _ in keys],
        )
        await audit.note(connection, viewer, f"bulk {act}", bulk_id, query=_shown(told), items=len(keys))
        await connection.execute("select pg_notify($1, $2)", CHANNEL, bulk_id)
    return bulk_id


def meant(query: Query, act: Act, now: datetime) -> Query:
    """The query as it is carried out: only what came by now, and of the bin for what is to be restored. Pure."""
    q = query.q or ""
    if act == "restore" and "is:deleted" not in q:
        q = f"{q} is:deleted".strip()
    until = min(query.until, now) if query.until else now
    return replace(query, q=q or None, until=until, limit=search.LONGEST_PAGE, cursor=None)


async def get(pool: Any, viewer: Viewer, bulk_id: str) -> Bulk:
    """How far it is. Raises Missing, for a stranger's as for none."""
    row = await pool.fetchrow(f"select {_COLUMNS} from bulk_acts where {_VISIBLE}", clean(bulk_id), viewer.account_id)
    if row is None:
        raise Missing("there is no such act")
    counts = {each["outcome"]: each["mails"] for each in await pool.fetch(_COUNTS, row["id"])}
    failures = await pool.fetch(
        "select i.item, coalesce(nullif(i.reason, ''), j.outcome, '') as reason from bulk_act_items i"
        " left join jobs j on j.bulk = i.bulk and j.item = i.item where i.bulk = $1 and i.outcome = 'failed'"
        " order by n limit $2",
        row["id"],
        FAILURES_SHOWN,
    )
    return Bulk(
        **{**dict(row), "options": msgspec.json.decode(row["options"])},
        counts=counts,
        failures=[Failure(**dict(each)) for each in failures],
    )


async def latest(pool: Any, viewer: Viewer, limit: int = 20) -> list[str]:
    """Ids of the viewer's newest ones."""
    found = await pool.fetch(
        "select id from bulk_acts where $1::text is null or account_id = $1 order by id desc limit $2",
        viewer.account_id,
        limit,
    )
    return [row["id"] for row in found]


async def cancel(pool: Any, viewer: Viewer, bulk_id: str) -> None:
    """Do no more of it: what is done stays done, deliveries under way end. Harmless again. Raises Missing."""
    async with pool.acquire() as connection, connection.transaction():
        row = await _locked(connection, viewer, bulk_id)
        if row["state"] not in ("listing", "running"):
            return
        await connection.execute(
            "update jobs set state = 'cancelled', outcome = 'taken back before it began', ended_at = now()"
            " where bulk = $1 and state = 'queued'",
            bulk_id,
        )
        await connection.execute(
            "update bulk_act_items i set outcome = 'cancelled' where bulk = $1 and (outcome = 'waiting' or"
            " (outcome = 'queued' and exists"
            " (select from jobs j where j.bulk = i.bulk and j.item = i.item and j.state = 'cancelled')))",
            bulk_id,
        )
        await _state(connection, bulk_id, "cancelled", ended=True)
        await audit.note(connection, viewer, f"cancel bulk {row['act']}", bulk_id)


async def resume(pool: Any, viewer: Viewer, bulk_id: str) -> None:
    """Go on with one that was cancelled. Raises Missing, and TooLate for one that ended otherwise."""
    async with pool.acquire() as connection, connection.transaction():
        row = await _locked(connection, viewer, bulk_id)
        if row["state"] in ("listing", "running"):
            return
        if row["state"] != "cancelled":
            raise TooLate(f"it is {row['state']}; only what was cancelled can be resumed")
        await connection.execute(
            "update bulk_act_items set outcome = 'waiting' where bulk = $1 and outcome = 'cancelled'", bulk_id
        )
        await _state(connection, bulk_id, "running" if row["listed"] else "listing", ended=False)
        await audit.note(connection, viewer, f"resume bulk {row['act']}", bulk_id)


async def undo(pool: Any, viewer: Viewer, bulk_id: str) -> None:
    """Take it back: what it deleted is restored, what it restored is deleted, releases that have not begun are
    cancelled. Harmless again. Raises Missing, and TooLate for deliveries that are over."""
    await cancel(pool, viewer, bulk_id)
    async with pool.acquire() as connection, connection.transaction():
        row = await _locked(connection, viewer, bulk_id)
        if row["state"] in ("undoing", "undone"):
            return
        if row["act"] not in ("delete", "restore"):
            if row["state"] == "done":
                raise TooLate("all of it was done; a delivery cannot be taken back")
            return
        await _state(connection, bulk_id, "undoing", ended=False)
        await audit.note(connection, viewer, f"undo bulk {row['act']}", bulk_id)


async def tidy(pool: Any) -> None:
    """Forget those that ended long ago."""
    await pool.execute("delete from bulk_acts where ended_at < now() - $1::interval", KEPT)


async def _key(pool: Any, viewer: Viewer, item_id: str) -> tuple[datetime, str]:
    kept = await items.get(pool, viewer, item_id, binned=True) if is_id(item_id) else None
    if kept is None:
        raise Missing(f"there is no mail “{item_id[:40]}”")
    return kept.received_at, kept.id


async def _locked(connection: Any, viewer: Viewer, bulk_id: str) -> Any:
    row = await connection.fetchrow(
        f"select act, state, listed from bulk_acts where {_VISIBLE} for update", clean(bulk_id), viewer.account_id
    )
    if row is None:
        raise Missing("there is no such act")
    return row


async def _state(connection: Any, bulk_id: str, state: str, *, ended: bool) -> None:
    await connection.execute(
        "update bulk_acts set state = $2, ended_at = case when $3 then now() end where id = $1", bulk_id, state, ended
    )
    await connection.execute("select pg_notify($1, $2)", CHANNEL, bulk_id)


def _shown(told: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in told.items() if name not in ("limit", "cursor")}
