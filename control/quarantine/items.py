"""One kept mail: its row with every verdict, and its exact bytes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from control.auth import Viewer
from control.quarantine import records
from control.quarantine.conditions import Where, is_id
from control.quarantine.packs import BodyLost
from control.quarantine.reading import rows
from syncd.spool.record import Record

_COLUMNS = (
    "q.id, q.txn, q.received_at, q.account_id, q.domain as domain_number, q.sender, q.recipient, q.subject,"
    " q.header_from, q.reason, q.filter, q.reason_text, q.score, q.node, host(q.client_ip) as client_ip,"
    " q.size_bytes as size, q.attachments, q.status, q.generation, q.revision, q.pack, q.pack_offset, q.pack_bytes,"
    " coalesce((select name from domains d where d.number = q.domain), '') as served, q.deleted_at,"
    " q.hold or exists (select from legal_holds h where h.number = q.domain) as on_hold"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """One kept mail of one recipient.

    `domain` is the recipient's, `served` "" when it is served here no longer. `deleted_at` is since when it lies in
    the bin, `on_hold` whether it, or all mail of its domain, may not be deleted. `record` holds what concerns the
    account alone unless the operator asks; None when it cannot be read.
    """

    id: str
    txn: str
    received_at: datetime
    account_id: str
    domain_number: int
    sender: str
    recipient: str
    subject: str
    header_from: str
    reason: str
    filter: str
    reason_text: str
    score: float
    node: str
    client_ip: str
    size: int
    attachments: tuple[str, ...]
    status: str
    generation: int
    revision: int
    pack: str
    pack_offset: int
    pack_bytes: int
    served: str
    deleted_at: datetime | None = None
    on_hold: bool = False
    record: Record | None = None

    @property
    def domain(self) -> str:
        """The recipient's domain."""
        return self.served or self.recipient.rpartition("@")[2]


async def get(pool: Any, viewer: Viewer, item_id: str, *, binned: bool = False) -> Kept | None:
    """One item with its record; None for a stranger's as for none, and for one in the bin unless `binned`."""
    found = await _find(
        pool,
        viewer,
        item_id,
        f"{_COLUMNS}, r.record",
        "left join mail_records r on r.received_at = q.received_at and r.txn = q.txn",
        binned=binned,
    )
    if found is None:
        return None
    values = dict(found)
    packed = values.pop("record")
    record = records.read(packed) if packed else None
    if record is not None and not viewer.is_operator:
        record = records.for_account(record, values["account_id"])
    values["attachments"] = tuple(values["attachments"])
    return Kept(**values, record=record)


async def raw(pool: Any, packs: Any, viewer: Viewer, item_id: str) -> bytes | None:
    """The exact bytes of the mail as received, of one in the bin too; None for a stranger's item as for none.
    Raises BodyLost."""
    found = await _find(pool, viewer, item_id, "q.pack, q.pack_offset, q.pack_bytes", binned=True)
    if found is None:
        return None
    if packs is None or not found["pack"]:
        raise BodyLost("the body of this mail was not stored")
    body: bytes = await packs.read(found["pack"], found["pack_offset"], found["pack_bytes"])
    return body


async def _find(pool: Any, viewer: Viewer, item_id: str, columns: str, join: str = "", *, binned: bool) -> Any | None:
    """The row: looked for near the time in its id, and only then everywhere, for a node's clock may have jumped."""
    if not is_id(item_id) or "." not in item_id:
        return None
    for is_near in (True, False):
        where = Where()
        if is_near:
            where.near(item_id)
        where.scope(viewer, None)
        where.add("id = {}", item_id)
        if not binned:
            where.add("status <> 'deleted'")
        sql = f"select {columns} from (select * from quarantine where {where.sql} limit 1) q {join}"
        if found := await rows(pool, sql, where.values):
            return found[0]
    return None
