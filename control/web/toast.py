"""The line that says what was just done and takes it back.

It is carried in the address as `did`, so that no script is needed:
`a:<act>` is an act on one mail, `b:<bulk>` one on many.
"""

from dataclasses import dataclass

from control.quarantine import acts, bulk, release
from control.store.errors import Missing
from control.web import shell, words

DONE = {
    "release": "Delivery begins in a moment",
    "delete": "Moved to the bin",
    "block": "Sender blocked, mail moved to the bin",
}
BULK = {"release": "delivered", "delete": "moved to the bin", "restore": "restored", "export": "exported"}


@dataclass(frozen=True, slots=True)
class Toast:
    """`undo` is the address that takes it back, "" when that is over; `href` leads to its progress."""

    text: str
    undo: str = ""
    href: str = ""


async def of(did: str) -> Toast | None:
    """What an address says was done; None for nothing, and for what is none of the viewer's."""
    kind, _, name = did.partition(":")
    try:
        if kind == "a":
            return await _act(name)
        if kind == "b":
            return await _bulk(name)
    except Missing:
        return None
    return None


async def _act(name: str) -> Toast:
    found = await acts.act(shell.pool(), shell.viewer(), name)
    if found.undone_at is not None:
        return Toast("Taken back")
    undo = f"/quarantine/acts/{found.id}/undo"
    if found.act == "release":
        job = await release.job(shell.pool(), shell.viewer(), str(found.detail.get("job", "")))
        if job is None or job.state != "queued":
            return Toast("The delivery has begun", href=f"/quarantine/{found.item}")
    return Toast(DONE[found.act], undo, f"/quarantine/{found.item}")


async def _bulk(name: str) -> Toast:
    found = await bulk.get(shell.pool(), shell.viewer(), name)
    undo = f"/quarantine/actions/{found.id}/undo" if found.state in ("listing", "running", "done") else ""
    if found.act == "release" and found.state == "done":
        undo = ""
    count = f"{words.number(found.total)} mail{'s' if found.total != 1 else ''}" if found.listed else "The mails"
    done = "were" if found.state == "done" else "are being" if found.is_open else "are not all"
    return Toast(f"{count} {done} {BULK[found.act]}", undo, f"/quarantine/actions/{found.id}")
