"""Tracking: every transaction of every node, delivered ones included."""

from dataclasses import dataclass
from typing import Any

from quart import Blueprint, ResponseReturnValue, abort, redirect, request

from control.quarantine import later, tracking
from control.quarantine.tracking import Found, Recipient
from control.store import domains
from control.web import asked, paging, shell, verdict, words
from control.web.quarantine import by_day
from syncd.spool.record import Judgement, Outcome

PATH = "/messages"
ROWS = 50
SENTENCES = {
    "delivered": "Your server took it.",
    "kept": "It was refused, and kept in the quarantine.",
    "later": "Your server did not answer; it is kept and delivered when it does.",
    "refused": "It was refused without a copy.",
    "deferred": "The sender was asked to come again.",
    "abandoned": "The sender left before the mail was complete.",
}
"""What an outcome means where no sentence was recorded."""

blueprint = Blueprint("messages", __name__)


@blueprint.get(PATH)
@shell.signed_in
async def listing() -> ResponseReturnValue:
    """The newest transactions that fit the search, a row a recipient."""
    typed = asked.read(request.args)
    context: dict[str, Any] = {"nav": "messages", "asked": typed, "error": "", "days": [], "outcomes": list(Outcome)}
    context["domains"] = [each.name for each in await domains.listing(shell.pool(), shell.viewer())]
    cursor, trail = request.args.get("cursor", ""), request.args.get("trail", "")
    try:
        found = await tracking.search(shell.pool(), shell.viewer(), _query(typed, cursor))
    except ValueError as error:
        return await shell.page("messages.html", 400, **{**context, "error": str(error)})
    newer, older = paging.links(PATH, typed.parameters(), cursor, trail, found.next)
    return await shell.page("messages.html", **{**context, "days": by_day(found.items), "newer": newer, "older": older})


@blueprint.get(f"{PATH}/<message_id>")
@shell.signed_in
async def message(message_id: str) -> ResponseReturnValue:
    """What became of one transaction, for each recipient of the viewer's; 404 for a stranger's as for none."""
    found = await tracking.find(shell.pool(), shell.viewer(), message_id)
    if found is None:
        abort(404)
    recipients = [_recipient(found, each) for each in found.recipients]
    context: dict[str, Any] = {"mail": found, "recipients": recipients, "facts": _facts(found)}
    context["pushed"] = "pushed" in request.args
    return await shell.page("message.html", nav="messages", **context)


@blueprint.post(f"{PATH}/<message_id>/retry")
@shell.signed_in
async def retry(message_id: str) -> ResponseReturnValue:
    """Try at once what waits for the recipient's server."""
    if await tracking.find(shell.pool(), shell.viewer(), message_id) is None:
        abort(404)
    await later.push(shell.pool(), shell.viewer(), message_id)
    return redirect(f"{PATH}/{message_id}?pushed=1", 303)


@dataclass(frozen=True, slots=True)
class Told:
    """One recipient's outcome as the page shows it; `kept_id` "" when nothing is in the quarantine."""

    recipient: str
    outcome: str
    reason: str
    why: str
    reply: str
    kept_id: str
    judgements: list[Judgement]


def _recipient(found: Found, each: Recipient) -> Told:
    why = each.text or next((j.reason for j in each.judgements if j.acted), "") or SENTENCES.get(each.outcome, "")
    kept = f"{found.id}.{each.n}" if each.outcome == "kept" else ""
    judgements = verdict.in_order(each.judgements)
    return Told(each.recipient, each.outcome, each.reason, verdict.ended(why), each.reply, kept, judgements)


def _facts(found: Found) -> list[tuple[str, str]]:
    facts = [
        ("Client", found.client_ip),
        ("HELO", found.helo),
        ("TLS", found.tls or "none"),
        ("Node", found.node),
        ("Size", words.size(found.size)),
        ("Settings", ", ".join(sorted({f"revision {each.revision}" for each in found.recipients if each.revision}))),
        ("Message-ID", found.message_id),
        ("Id", found.id),
    ]
    return [(name, value) for name, value in facts if value]


def _query(typed: asked.Asked, cursor: str) -> tracking.Query:
    since, until = typed.span()
    return tracking.Query(
        domain=typed.domain or None,
        q=typed.q or None,
        sender=typed.sender or None,
        recipient=typed.recipient or None,
        outcome=typed.outcome or None,
        since=since,
        until=until,
        limit=ROWS,
        cursor=cursor or None,
    )
