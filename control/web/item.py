"""One kept mail: why first, then every verdict, the safe view, the raw bytes, and its release."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from quart import Blueprint, ResponseReturnValue, abort, redirect, request

from control.quarantine import acts as quarantine_acts
from control.quarantine import items, release, rights, viewing
from control.quarantine.items import Kept
from control.quarantine.packs import BodyAway, BodyLost
from control.quarantine.release import Job
from control.store.errors import Forbidden, Invalid
from control.web import acts, headers, jobline, shell, toast, verdict, words
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
    return await _page(item_id)


@blueprint.get("/quarantine/<item_id>/view")
@shell.signed_in
async def view(item_id: str) -> ResponseReturnValue:
    """The sanitised HTML alone, for the sandboxed frame, under a policy of its own."""
    safe = await viewing.safe(await _raw(item_id))
    answer = await shell.answered(safe.html)
    answer.headers["Content-Type"] = "text/html; charset=utf-8"
    answer.headers["Content-Security-Policy"] = headers.MAIL_CSP
    return answer


@blueprint.get("/quarantine/<item_id>/raw")
@shell.signed_in
async def raw(item_id: str) -> ResponseReturnValue:
    """The exact bytes as a download; a browser must never show them as a page of ours."""
    answer = await shell.answered(await _raw(item_id))
    await quarantine_acts.viewed(shell.pool(), shell.viewer(), item_id, "download")
    answer.headers["Content-Type"] = "message/rfc822"
    answer.headers["Content-Disposition"] = f'attachment; filename="{_filename(item_id)}.eml"'
    answer.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return answer


@blueprint.post("/quarantine/<item_id>/release")
@shell.signed_in
async def release_item(item_id: str) -> ResponseReturnValue:
    """Queue its delivery past the filters; a second click meets the first one's job."""
    form = await request.form
    options = {name: form.get(name, "") for name in ("allow", "to", "again", "train")}
    options |= {"allow_sender": bool(form.get("allow_sender")), "hold_s": release.HELD_S}
    try:
        job = await release.request(shell.pool(), shell.viewer(), item_id, options)
    except Invalid as error:
        return await _page(item_id, 422, refused=error.reason)
    except Forbidden as error:
        return await _page(item_id, 403, refused=str(error))
    back = acts.local(form.get("back", ""), "")
    if not back:
        return redirect(f"/quarantine/{item_id}", 303)
    made = await release.job(shell.pool(), shell.viewer(), job)
    return redirect(acts.told(back, f"a:{made.act_id if made else ''}"), 303)


async def _page(item_id: str, code: int = 200, *, refused: str = "") -> ResponseReturnValue:
    detail = await _detail(item_id)
    view = request.args.get("view", "message")
    context: dict[str, Any] = {"nav": "quarantine", "tabs": TABS, "view": view if view in VIEWS else "message"}
    last = await release.latest(shell.pool(), detail)
    refused = refused or request.args.get("said", "")[:300]
    context["toast"] = await toast.of(request.args.get("did", ""))
    context["held"] = bool(last and last.state == "queued" and last.act_id and _is_held(last))
    context["may_release"] = rights.may_release(shell.viewer().role, detail.reason)
    context["who_may"] = rights.who_may(detail.reason)
    await quarantine_acts.viewed(shell.pool(), shell.viewer(), detail.id)
    context["events"] = await quarantine_acts.history(shell.pool(), detail)
    context |= {"undo": last.act_id if last else ""}
    context |= {"item": detail, "refused": refused, "job": jobline.line(last) if last else None, "again": _again(last)}
    return await shell.page("item.html", code, **context, **await _body(item_id), **_why(detail))


async def _detail(item_id: str) -> Kept:
    detail = await items.get(shell.pool(), shell.viewer(), item_id, binned=True)
    if detail is None:
        abort(404)
    return detail


async def _raw(item_id: str) -> bytes:
    """The bytes for an address of their own; 404 for a stranger's as for none, and for a body that is lost."""
    try:
        body = await items.raw(shell.pool(), shell.services().packs, shell.viewer(), item_id)
    except BodyAway:
        abort(503)
    except BodyLost:
        abort(404)
    if body is None:
        abort(404)
    return body


async def _body(item_id: str) -> dict[str, Any]:
    """What the page shows of the mail itself; `lost` says in words why there is nothing to show, "" if there is."""
    raw, lost = b"", ""
    try:
        raw = await items.raw(shell.pool(), shell.services().packs, shell.viewer(), item_id) or b""
    except BodyAway:
        lost = "The store of mail bodies does not answer now. Try again in a moment."
    except BodyLost:
        lost = "The body of this mail is lost; what is known of it is still here."
    return {
        "lost": lost,
        "safe": None if lost else await viewing.safe(raw),
        "raw_text": raw[:RAW_SHOWN_BYTES].decode("utf-8", "replace"),
        "raw_cut": RAW_SHOWN_BYTES if len(raw) > RAW_SHOWN_BYTES else 0,
    }


def _is_held(last: Job) -> bool:
    return last.not_before is not None and last.not_before > datetime.now(UTC)


def _again(last: Job | None) -> str:
    """The job that another click would repeat; "" where a click makes a first one, or only shows the one under way."""
    return last.id if last is not None and last.state in ("done", "unknown") else ""


def _why(detail: Kept) -> dict[str, Any]:
    """The sentence, the setting to change, the verdicts and the facts of an item."""
    record = detail.record
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


def _facts(detail: Kept, record: Record | None) -> list[tuple[str, str]]:
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
