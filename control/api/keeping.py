"""`/holds`, `/domains/{domain}/hold`, `/accounts/{account}/quota`, `/quarantine/purge`: what is kept, and what goes."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from control.api.operation import Answer, Asked, operation
from control.quarantine import holds, leaving, quota
from control.store import names


class Hold(msgspec.Struct, frozen=True):
    """A domain whose mail is neither deleted nor expired."""

    domain: str
    note: str
    created_by: str
    created_at: datetime


class Holds(msgspec.Struct, frozen=True):
    """All holds that you may see."""

    items: list[Hold]


class WantedHold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why."""

    note: Annotated[str, Meta(max_length=holds.LONGEST_NOTE)] = ""


class Quota(msgspec.Struct, frozen=True):
    """Bytes of mail that an account may keep (null: what its retention says), and how much it keeps."""

    quota_bytes: int | None
    used_bytes: int
    mails: int


class WantedQuota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is above goes within the hour, oldest first."""

    quota_bytes: Annotated[int, Meta(ge=1, le=2**62)] | None


class Purge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The mailbox."""

    recipient: Annotated[str, Meta(min_length=3, max_length=320)]


class Leaving(msgspec.Struct, frozen=True):
    """The wish, as the audit names it."""

    leaving: str


@operation("GET", "/holds", summary="Domains on hold", answers={200: Holds})
async def list_holds(asked: Asked) -> Answer:
    """Holds of single mails are shown with those."""
    return Answer(Holds([_hold(each) for each in await holds.listing(asked.pool, asked.viewer)]))


@operation("PUT", "/domains/{domain}/hold", summary="Put a domain on hold", answers={200: Hold}, body=WantedHold)
async def hold_domain(asked: Asked) -> Answer:
    """No mail of it is deleted or expires, what is still to come included."""
    return Answer(_hold(await holds.set_domain(asked.pool, asked.viewer, _domain(asked), asked.body.note)))


@operation("DELETE", "/domains/{domain}/hold", summary="Take its hold off", answers={204: None})
async def lift_hold(asked: Asked) -> Answer:
    """What ought to be gone by then goes within the hour."""
    await holds.lift_domain(asked.pool, asked.viewer, _domain(asked))
    return Answer(None, 204)


@operation("GET", "/accounts/{account}/quota", summary="Quota and use", answers={200: Quota})
async def get_quota(asked: Asked) -> Answer:
    """Of the quarantine; the bin counts."""
    found = await quota.get(asked.pool, asked.viewer, asked.path["account"])
    return Answer(msgspec.convert(found, Quota, from_attributes=True))


@operation(
    "PUT",
    "/accounts/{account}/quota",
    summary="Set the quota",
    answers={200: Quota},
    body=WantedQuota,
    audience="operator",
)
async def put_quota(asked: Asked) -> Answer:
    """null takes it off."""
    await quota.put(asked.pool, asked.viewer, asked.path["account"], asked.body.quota_bytes)
    return await get_quota(asked)


@operation("POST", "/quarantine/purge", summary="Remove a mailbox's mail", answers={202: Leaving}, body=Purge)
async def purge_mailbox(asked: Asked) -> Answer:
    """Rows, verdicts and tracking of one address go at once, without a bin; bodies go with the pack of their day."""
    return Answer(Leaving(await leaving.mailbox(asked.pool, asked.viewer, asked.body.recipient)), 202)


def _domain(asked: Asked) -> str:
    return names.domain(asked.path["domain"])


def _hold(found: holds.Hold) -> Hold:
    return msgspec.convert(found, Hold, from_attributes=True)
