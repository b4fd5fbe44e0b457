"""The wish that mail goes at once, written down with what calls for it; `control.quarantine.leaving` carries it out."""

from typing import Any

from ulid import ULID

from control.auth import Viewer
from control.store import audit


async def begin(connection: Any, viewer: Viewer, account_id: str, number: int, recipient: str = "") -> str:
    """Write the wish down, in the caller's transaction; returns its id."""
    wish = str(ULID())
    await connection.execute(
        "insert into leaving (id, account_id, domain, recipient, created_by) values ($1, $2, $3, $4, $5)",
        wish,
        account_id,
        number,
        recipient,
        viewer.author,
    )
    await connection.execute(
        "update later set state = 'cancelled' where domain = $1 and account_id = $2 and state = 'waiting'"
        " and ($3 = '' or lower(recipient) = $3)",
        number,
        account_id,
        recipient,
    )
    await audit.note(connection, viewer, "remove mail", recipient or str(number), leaving=wish)
    return wish
