"""The public page named in refusals: tells a stranger how to ask, nothing of the mail.

It never looks anything up, so that it cannot tell a known reference from an unknown one, not even by
the time it takes.
"""

import re

from quart import Blueprint, ResponseReturnValue

from control.web import shell

REFERENCE = re.compile(r"[0-9A-Za-z.]{1,40}")

blueprint = Blueprint("stranger", __name__)


@blueprint.get("/r/<reference>")
async def stranger(reference: str) -> ResponseReturnValue:
    """The same page and status for every reference that could be one."""
    shown = reference if REFERENCE.fullmatch(reference) else "the one in the reply your server got"
    return await shell.page("stranger.html", reference=shown)
