"""The audit trail of acts that are no settings: tokens, accounts, releases. Settings have their own history."""

from collections.abc import Sequence
from typing import Any

import msgspec

from control.auth import Viewer


async def note(connection: Any, viewer: Viewer, act: str, subject: str, **detail: Any) -> None:
    """Write down who did what to which thing; `detail` holds JSON values, never a secret."""
    await connection.execute(
        "insert into audit (account_id, author, door, act, object, detail)"
        " values ($1, $2, $3, $4, $5, $6::text::jsonb)",
        viewer.account_id,
        viewer.author,
        viewer.door,
        act,
        subject,
        msgspec.json.encode(detail).decode(),
    )


async def note_many(connection: Any, viewer: Viewer, act: str, subjects: Sequence[str], **detail: Any) -> None:
    """The same of many things at once, with one detail for all."""
    await connection.execute(
        "insert into audit (account_id, author, door, act, object, detail)"
        " select $1, $2, $3, $4, subject, $6::text::jsonb from unnest($5::text[]) as subject",
        viewer.account_id,
        viewer.author,
        viewer.door,
        act,
        list(subjects),
        msgspec.json.encode(detail).decode(),
    )
