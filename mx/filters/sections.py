"""Settings of a domain that are not filters: thresholds, refusals, delivery, retention."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mx.filter import Section


class Scoring(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two thresholds over the sum of the scores."""

    refuse_at: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="At this score and above the mail is refused, and kept.",
            extra={"label": "Refuse at"},
        ),
    ] = 10.0
    doubt_at: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="From this score up to the refusal the mail is doubtful.",
            extra={"label": "Doubtful from"},
        ),
    ] = 5.0
    doubtful: Annotated[
        Literal["deliver", "tag", "hold"],
        Meta(
            description="What to do with doubtful mail: deliver, tag its subject, or hold it in the quarantine.",
            extra={"label": "Doubtful mail"},
        ),
    ] = "tag"
    tag: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=40,
            pattern=r"^[ -~]+(?![\s\S])",  # `$` would let a final LF through, into the header
            description="Put before the subject of tagged mail.",
            extra={"label": "Tag"},
        ),
    ] = "[SPAM?]"


class Refusal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a refusal is spoken."""

    early: Annotated[
        tuple[str, ...],
        Meta(
            max_length=50,
            description="Filters that refuse at RCPT, at once and without a copy in the quarantine.",
            extra={"label": "Refuse without a copy"},
        ),
    ] = ()


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens when the next hop does not take mail."""

    keep_when_down: Annotated[
        bool,
        Meta(
            description="Take mail while all next hops are down, and deliver it when they answer.",
            extra={"label": "Keep mail while the server is down"},
        ),
    ] = False


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the quarantine keeps."""

    days: Annotated[
        int, Meta(ge=1, le=366, description="Days a kept mail stays in the quarantine.", extra={"label": "Days"})
    ] = 31


SECTIONS: tuple[Section, ...] = (
    Section("scoring", "From which score is a mail doubtful, from which refused?", Scoring),
    Section("refusal", "Which refusals are spoken early, without a copy?", Refusal),
    Section("delivery", "What if the next hop is down?", Delivery),
    Section("retention", "How long is refused mail kept?", Retention),
)
