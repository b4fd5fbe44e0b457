"""Event streams: a settings revision spreading over the nodes, a release coming to its end.

Each stream sends the fragment that the page shows, whenever it differs, and ends with `end`. It
is bounded in time and watches the panel's shutdown, so that an open page never holds a stop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from quart import Blueprint, Response, ResponseReturnValue, abort, render_template, stream_with_context

from control.app import services
from control.quarantine import bulk as acts_on_many
from control.quarantine import release
from control.web import bulk, jobline, live, shell

LONGEST_S = 120.0
"""After this a stream ends by itself; the browser opens it again while the page is open."""
KEEP_ALIVE_S = 10.0
NEWS_S = 1.0
"""A line with an age in it is looked at this often, news or not."""
JOB_TICK_S = 0.2
"""Between two looks at a job, which is a row."""
BULK_TICK_S = 0.5
"""Between two looks at an act on many mails, which is a count of its rows."""

blueprint = Blueprint("events", __name__, url_prefix="/events")

Look = Callable[[], Awaitable[tuple[str, bool]]]
"""The fragment to show now, and whether it is the last."""
Wait = Callable[[], Awaitable[object]]
"""Until it is worth to look again."""


@blueprint.get("/domains/<domain>/<int:revision>")
@shell.signed_in
async def settings(domain: str, revision: int) -> ResponseReturnValue:
    """The propagation line of a domain's revision until every member has it."""
    wanted = await live.target(domain, revision)
    receipts = services().receipts

    async def look() -> tuple[str, bool]:
        spread = live.of(wanted)
        return await render_template("_propagation_line.html", spread=spread), spread.complete

    return await _stream("spread", look, lambda: receipts.wait_applied(wanted, NEWS_S))


@blueprint.get("/jobs/<job_id>")
@shell.signed_in
async def job(job_id: str) -> ResponseReturnValue:
    """The line of a release until it has ended; 404 for a stranger's as for none."""
    pool, viewer = shell.pool(), shell.viewer()
    if await release.job(pool, viewer, job_id) is None:
        abort(404)

    async def look() -> tuple[str, bool]:
        found = await release.job(pool, viewer, job_id)
        if found is None:
            return "", True
        return await render_template("_job_line.html", job=jobline.line(found)), not found.is_open

    return await _stream("job", look, lambda: asyncio.sleep(JOB_TICK_S))


@blueprint.get("/acts/<bulk_id>")
@shell.signed_in
async def act(bulk_id: str) -> ResponseReturnValue:
    """The line of an act on many mails until it has ended; 404 for a stranger's as for none."""
    pool, viewer = shell.pool(), shell.viewer()
    await acts_on_many.get(pool, viewer, bulk_id)

    async def look() -> tuple[str, bool]:
        found = await acts_on_many.get(pool, viewer, bulk_id)
        return await render_template("_bulk_line.html", line=bulk.line(found)), not found.is_open

    return await _stream("act", look, lambda: asyncio.sleep(BULK_TICK_S))


async def _stream(event: str, look: Look, wait: Wait) -> Response:
    answer = await shell.answered(stream_with_context(_events)(event, look, wait))
    answer.headers["Content-Type"] = "text/event-stream"
    answer.headers["X-Accel-Buffering"] = "no"
    answer.timeout = None
    return answer


async def _events(event: str, look: Look, wait: Wait) -> AsyncIterator[bytes]:
    stopping = services().stopping
    started = told = time.monotonic()
    shown = ""
    while time.monotonic() - started < LONGEST_S and not stopping.is_set():
        fragment, last = await look()
        if fragment != shown:
            shown, told = fragment, time.monotonic()
            yield encode(event, fragment)
        if last:
            yield encode("end", "")
            return
        if time.monotonic() - told > KEEP_ALIVE_S:
            told = time.monotonic()
            yield b": still here\n\n"
        await wait()


def encode(event: str, data: str) -> bytes:
    """One event of a stream; every line of `data` on a line of its own (HTML standard, section 9.2)."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {event}\n{lines}\n".encode()
