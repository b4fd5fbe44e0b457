"""`/bulk/settings`: one merge patch into the settings of many domains, and how far that is."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from control.api import schemas
from control.api.operation import Answer, Asked, operation
from control.api.problems import refused
from control.store import bulk, layers, names
from control.store.bulk import MOST_DOMAINS, Bulk


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The patch, and for which domains: those in `domains`, those of `account`, or all that you may see."""

    patch: Annotated[
        dict[str, Any],
        Meta(description="A JSON merge patch (RFC 7396), as for one domain.", min_length=1),
    ]
    domains: Annotated[list[Annotated[str, Meta(min_length=1, max_length=253)]], Meta(max_length=MOST_DOMAINS)] = []
    account: Annotated[str, Meta(max_length=64)] = ""
    all: bool = False


class Failure(msgspec.Struct, frozen=True):
    """A domain that could not be changed, and why."""

    domain: str
    reason: str


class Progress(msgspec.Struct, frozen=True):
    """How far a bulk change is. `state`: running, done, stopped; `same` domains had these settings already.

    `revision` is the last one it made; `applied`: it is at its end, and every member node has that revision; `awaited`
    names the nodes that have not. `failures` are the first hundred.
    """

    id: str
    state: str
    total: int
    waiting: int
    changed: int
    same: int
    failed: int
    revision: int
    applied: bool
    awaited: list[str]
    failures: list[Failure]


@operation(
    "POST",
    "/bulk/settings",
    summary="Change settings of many domains",
    answers={202: Progress},
    body=Wanted,
    body_schema=("BulkPatch", lambda: _schema()),
)
async def change_settings_in_bulk(asked: Asked) -> Answer:
    """Checked for every domain before anything is stored, then written in the background, behind everybody else's
    changes; it goes on after a crash. Each domain gets a revision of its own. Follow the answer's `id`."""
    wanted: Wanted = asked.body
    if (bool(wanted.domains), bool(wanted.account), wanted.all).count(True) != 1:
        raise refused(422, "name one of domains, account, all", field="domains", reason="name one of three")
    spelled = [names.domain(name, f"domains[{number}]") for number, name in enumerate(wanted.domains)]
    bulk_id = await bulk.begin(
        asked.pool, asked.viewer, wanted.patch, names=spelled or None, account=wanted.account or None
    )
    return Answer(await _progress(asked, await bulk.get(asked.pool, asked.viewer, bulk_id)), 202)


@operation("GET", "/bulk/settings/{bulk}", summary="How far a bulk change is", answers={200: Progress})
async def read_bulk_change(asked: Asked) -> Answer:
    """It is *done* when every domain was tried, and `applied` when every node has the last of it."""
    return Answer(await _progress(asked, await bulk.get(asked.pool, asked.viewer, asked.path["bulk"])))


@operation("POST", "/bulk/settings/{bulk}/stop", summary="Stop a bulk change", answers={200: Progress})
async def stop_bulk_change(asked: Asked) -> Answer:
    """Domains that wait stay as they are; those that were changed stay changed."""
    return Answer(await _progress(asked, await bulk.stop(asked.pool, asked.viewer, asked.path["bulk"])))


async def _progress(asked: Asked, found: Bulk) -> Progress:
    async with asked.pool.acquire() as connection:
        target = await layers.at(connection, found.revision)
    members = target.members
    receipts = asked.services.receipts
    awaited = [name for name, at in receipts.nodes(target).items() if not at.applied] if found.changed else []
    return Progress(
        **{name: getattr(found, name) for name in ("id", "state", "waiting", "changed", "same", "failed", "revision")},
        total=found.waiting + found.changed + found.same + found.failed,
        applied=found.state != "running" and not awaited and bool(members),
        awaited=awaited,
        failures=[Failure(*each) for each in found.failures],
    )


def _schema() -> dict[str, Any]:
    """The body's schema with the patch as it is for one domain."""
    (_,), components = schemas.of_types(Wanted)
    schema = dict(components["Wanted"])
    schema["properties"] = {**schema["properties"], "patch": schemas.PATCH[1]()}
    return schema
