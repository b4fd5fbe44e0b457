"""One kept mail: why first, then every verdict, the safe view, the raw bytes, and its release."""

import asyncio
from dataclasses import dataclass
from typing import Any

from quart import Blueprint, Response, ResponseReturnValue, abort, make_response, redirect, request

from control.quarantine import items, release, safeview
from control.web import headers, jobline, shell, verdict, words
from syncd.spool.record import Judgement, Record

VIEWS = {
    "message": "Message",
    "text": "Text",
    "headers": "Headers",
    "raw": "Raw",
    "attachments": "Attachments",
}
RAW_SHOWN_BYTES = 200_000
"""What the Raw tab shows; the download has all."""
PARSE_TIMEOUT_S = 10.0

blueprint = Blueprint("item", __name__)


@dataclass(frozen=True, slots=True)
class Tab:
    """One way to look at the mail."""

    key: str
    text: str


TABS = tuple(Tab(key, text) for key, text in VIEWS.items())


@blueprint.get("/quarantine/<item_id>")
@shell.signed_in
async def item(item_id: str) -> ResponseReturnValue:
    """The page of one mail; 404 for a stranger's as for none."""
    detail = await _detail(item_id)
    view = request.args.get("view", "message")
    context: dict[str, Any] = {"nav": "quarantine", "tabs": TABS, "view": view if view in VIEWS else "message"}
    raw = await items.raw(shell.pool(), shell.services().packs, shell.viewer(), item_id)
    safe = await _safe(raw) if raw is not None else None
    job = request.args.get("job", "")
    asked = await release.job(shell.pool(), shell.viewer(), job) if job else None
    context |= {
        "item": detail,
        "has_body": raw is not None,
        "job": jobline.line(asked) if asked else None,
        "safe": safe,
        "headers": safe.headers if safe else (),
        "attachments": safe.attachments if safe else (),
        "raw_text": (raw or b"")[:RAW_SHOWN_BYTES].decode("utf-8", "replace"),
        "raw_cut": RAW_SHOWN_BYTES if raw and len(raw) > RAW_SHOWN_BYTES else 0,
    }
    return await shell.page("item.html", **context, **_why(detail))


@blueprint.get("/quarantine/<item_id>/view")
@shell.signed_in
async def view(item_id: str) -> ResponseReturnValue:
    """The sanitised HTML alone, for the sandboxed frame, under a policy of its own."""
    await _detail(item_id)
    safe = await _safe(await _raw(item_id))
    answer: Response = await make_response(safe.html if safe else "")
    answer.headers["Content-Type"] = "text/html; charset=utf-8"
    answer.headers["Content-Security-Policy"] = headers.MAIL_CSP
    return answer


@blueprint.get("/quarantine/<item_id>/raw")
@shell.signed_in
async def raw(item_id: str) -> ResponseReturnValue:
    """The exact bytes as a download; a browser must never show them as a page of ours."""
    await _detail(item_id)
    answer: Response = await make_response(await _raw(item_id))
    answer.headers["Content-Type"] = "message/rfc822"
    answer.headers["Content-Disposition"] = f'attachment; filename="{_filename(item_id)}.eml"'
    answer.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return answer


@blueprint.post("/quarantine/<item_id>/release")
@shell.signed_in
async def release_item(item_id: str) -> ResponseReturnValue:
    """Queue its delivery past the filters; a second click meets the first one's job."""
    await _detail(item_id)
    options = {"allow_sender": bool((await request.form).get("allow_sender")), "train": False}
    job = await release.request(shell.pool(), shell.viewer(), item_id, options)
    return redirect(f"/quarantine/{item_id}?job={job}", 303)


async def _detail(item_id: str) -> Any:
    detail = await items.get(shell.pool(), shell.viewer(), item_id)
    if detail is None:
        abort(404)
    return detail


async def _raw(item_id: str) -> bytes:
    body = await items.raw(shell.pool(), shell.services().packs, shell.viewer(), item_id)
    if body is None:
        abort(404)
    return body


async def _safe(raw: bytes) -> safeview.SafeView | None:
    """The safe view, made off the event loop; None for a mail that takes too long."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(safeview.render, raw), PARSE_TIMEOUT_S)
    except TimeoutError:
        return None


def _why(detail: Any) -> dict[str, Any]:
    """The sentence, the setting to change, the verdicts and the facts of an item."""
    record: Record | None = detail.record
    judgements = _judgements(record, detail.recipient)
    return {
        "why": verdict.sentence(detail.reason, detail.reason_text, judgements),
        "change": verdict.change(detail.domain, detail.reason, detail.filter),
        "judgements": verdict.in_order(judgements),
        "score_sum": sum(each.score for each in judgements if each.mode != "shadow"),
        "dialogue": record.dialogue if record else (),
        "facts": _facts(detail, record),
    }


def _judgements(record: Record | None, recipient: str) -> tuple[Judgement, ...]:
    if record is None:
        return ()
    index = next((each.judgements for each in record.recipients if each.address == recipient), -1)
    return record.judgements[index] if 0 <= index < len(record.judgements) else ()


def _facts(detail: Any, record: Record | None) -> list[tuple[str, str]]:
    told = next((each.reply for each in record.recipients if each.address == detail.recipient), "") if record else ""
    facts = [
        ("Sender", words.sender(detail.sender)),
        ("Recipient", detail.recipient),
        ("From field", record.header_from if record else ""),
        ("Client", record.client_ip if record else ""),
        ("HELO", record.helo if record else ""),
        ("TLS", (record.tls or "none") if record else ""),
        ("Node", detail.node),
        ("Size", words.size(detail.size)),
        ("Score", f"{detail.score:g}"),
        ("Settings", f"revision {detail.revision}"),
        ("Message-ID", record.message_id if record else ""),
        ("The sender was told", told or (record.reply if record else "")),
        ("Id", detail.id),
    ]
    return [(name, value) for name, value in facts if value]


def _filename(item_id: str) -> str:
    return "".join(each for each in item_id if each.isalnum() or each in ".-")
