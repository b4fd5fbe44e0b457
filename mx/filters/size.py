"""Is the mail larger than the domain takes?

The bytes of the message count as they were received, header included. A node has a limit of its own, for everybody,
which it announces (RFC 1870) and which no domain can raise. What a client declares at MAIL is not judged here: only
the node's limit refuses by it, because a refusal at that stage would leave no copy. The peer hears
`552 5.3.4 Message too big for this recipient`.
"""

from typing import Annotated

from msgspec import Meta

from mx.filter import PASS, Filter, FilterSettings, Seen, Tools, Verdict, refuse


class Settings(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a domain can choose."""

    max_bytes: Annotated[
        int,
        Meta(
            ge=1000,
            le=1_000_000_000,
            description="Mail with more bytes than this is refused.",
            extra={"label": "Most bytes"},
        ),
    ] = 25_000_000


async def look(seen: Seen, settings: Settings, tools: Tools) -> int:
    """The size in bytes."""
    return len(seen.raw)


def judge(facts: int, settings: Settings) -> Verdict:
    """A refusal above the limit."""
    if facts <= settings.max_bytes:
        return PASS
    return refuse(
        f"The mail has {facts} bytes, more than the {settings.max_bytes} that are taken",
        text="Message too big for this recipient",
        code=552,
        enhanced="5.3.4",
        size_bytes=facts,
        max_bytes=settings.max_bytes,
    )


FILTER = Filter("size", "Is it too big?", Settings, look=look, judge=judge, raw_only=True)
