"""Puts the sender of a kept mail on its domain's allow or deny list, and takes that back again."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from control.auth import Viewer
from control.quarantine.items import Kept
from control.store import lists
from control.store.errors import Invalid, Missing
from control.store.lists import Kind, Wanted

Breadth = Literal["", "sender", "domain"]
NOTES: Mapping[Kind, str] = {"allow": "released from the quarantine", "deny": "blocked from the quarantine"}


async def enlist(pool: Any, viewer: Viewer, kept: Kept, kind: Kind, breadth: Breadth, field: str) -> dict[str, Any]:
    """Have the mail's sender (or its whole domain) on the list of the recipient's domain; one that is there already
    stays as it is.

    Returns what `withdraw` needs, as JSON types: {} when nothing was changed. Raises Invalid (naming `field`) for a
    sender that cannot be on a list, and for a domain that is not served any more.
    """
    wanted = _wanted(kept, kind, breadth, field)
    row = await pool.fetchrow(
        "select kind, match, expires, authenticated_only, note from entries"
        " where scope = 'domain' and name = $1 and match = $2",
        kept.served,
        wanted.match,
    )
    if row is not None and row["kind"] == kind and row["expires"] is None:
        return {}
    entry_id, _ = await lists.add(pool, viewer, "domain", kept.served, wanted, instead=True)
    return {"entry": entry_id, "listed": wanted.match, "displaced": _told(row) if row else None}


async def withdraw(pool: Any, viewer: Viewer, domain: str, made: Mapping[str, Any]) -> None:
    """Take back what `enlist` did; what somebody removed or replaced meanwhile is left as it is."""
    if not made.get("entry"):
        return
    try:
        await lists.remove(pool, viewer, "domain", domain, made["entry"])
        if displaced := made.get("displaced"):
            await lists.add(pool, viewer, "domain", domain, _again(displaced), instead=True)
    except Missing:
        return


def _wanted(kept: Kept, kind: Kind, breadth: Breadth, field: str) -> Wanted:
    if not kept.sender:
        raise Invalid(field, "this mail has no sender that could be on a list: it is a bounce or a notice")
    if not kept.served:
        raise Invalid(field, f"{kept.domain} is not served here any more")
    match = kept.sender.rpartition("@")[2] if breadth == "domain" else kept.sender
    try:
        return Wanted(kind, match, note=NOTES[kind]).checked()
    except Invalid as error:
        raise Invalid(field, f"this sender cannot be on a list: {error.reason}") from error


def _told(row: Any) -> dict[str, Any]:
    expires = row["expires"].isoformat() if row["expires"] else None
    return {**{name: row[name] for name in ("kind", "match", "authenticated_only", "note")}, "expires": expires}


def _again(told: Mapping[str, Any]) -> Wanted:
    expires = datetime.fromisoformat(told["expires"]) if told["expires"] else None
    return Wanted(told["kind"], told["match"], expires, told["authenticated_only"], told["note"])
