"""Does this address take mail, and from this sender?

For addresses that are no longer used, and for those that only some may write to, like a list of all colleagues. It
is judged at RCPT and spoken there, without a copy: the sender has to learn at once that the address is the wrong one.
(Whether an address exists at all is said by the domain's recipients, not here.) `postmaster` and `abuse` are never
refused, and an allow entry for the sender does not help. The peer hears `550 5.2.1 This address does not take mail`
or `550 5.7.1 You may not write to this address`. The sender of a mail can be forged; who may write is a matter of
order, not of safety.
"""

import fnmatch
import re
from functools import lru_cache
from typing import Annotated

import msgspec
from msgspec import Meta

from mx.filter import PASS, Filter, FilterSettings, Seen, Stage, Tools, Verdict, refuse

LocalPart = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\s@]+(?![\s\S])")]
Sender = Annotated[str, Meta(min_length=1, max_length=320, pattern=r"^[^\s]+(?![\s\S])")]


class Settings(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a domain can choose."""

    refused: Annotated[
        tuple[LocalPart, ...],
        Meta(
            max_length=1000,
            description="Local parts that take no mail; * stands for any characters, ? for one.",
            extra={"label": "Addresses that take no mail", "placeholder": "old-shop\nnewsletter-*"},
        ),
    ] = ()
    restricted: Annotated[
        tuple[LocalPart, ...],
        Meta(
            max_length=1000,
            description="Local parts that only the senders below may write to; * and ? as above.",
            extra={"label": "Addresses for some senders only", "placeholder": "all\nteam-*"},
        ),
    ] = ()
    senders: Annotated[
        tuple[Sender, ...],
        Meta(
            max_length=1000,
            description="Who may write to restricted addresses: an address, or a domain with its subdomains.",
            extra={"label": "Senders who may", "placeholder": "example.org\nann@example.net"},
        ),
    ] = ()


class Facts(msgspec.Struct, frozen=True):
    """Whose mail is for whom."""

    local_part: str
    sender: str


async def look(seen: Seen, settings: Settings, tools: Tools) -> Facts:
    """The recipient's local part without its quotes, in lower case, and the sender."""
    return Facts(unquoted(seen.recipient.rpartition("@")[0]).lower(), seen.sender.lower())


def judge(facts: Facts, settings: Settings) -> Verdict:
    """A refusal by the first pattern that fits."""
    if pattern := _fitting(settings.refused, facts.local_part):
        reason = f"The address takes no mail: {pattern} is listed"
        return refuse(reason, text="This address does not take mail", enhanced="5.2.1", pattern=pattern)
    pattern = _fitting(settings.restricted, facts.local_part)
    if pattern and not _may(facts.sender, settings.senders):
        who = facts.sender or "a sender without an address"
        reason = f"Only listed senders may write to {pattern}, and {who} is not listed"
        return refuse(reason, text="You may not write to this address", pattern=pattern, sender=facts.sender)
    return PASS


def unquoted(local_part: str) -> str:
    """A local part by its meaning: `"a\\b"` is the same mailbox as `ab` (RFC 5321 section 4.1.2)."""
    if len(local_part) > 1 and local_part[0] == local_part[-1] == '"':
        return re.sub(r"\\(.)", r"\1", local_part[1:-1])
    return local_part


def _fitting(patterns: tuple[str, ...], local_part: str) -> str:
    return next((each for each in patterns if _wildcards(each).fullmatch(local_part)), "")


def _may(sender: str, listed: tuple[str, ...]) -> bool:
    domain = sender.rpartition("@")[2]
    for each in (one.lower().removeprefix("@") for one in listed):
        if sender and (each in (sender, domain) or domain.endswith(f".{each}")):
            return True
    return False


@lru_cache(maxsize=10_000)
def _wildcards(pattern: str) -> re.Pattern[str]:
    """The standard library's translation never goes back over a star, so that no pattern is slow."""
    return re.compile(fnmatch.translate(pattern.lower().replace("[", "[[]")))


FILTER = Filter(
    "recipient_list",
    "Does this address take mail, and from whom?",
    Settings,
    stage=Stage.RCPT,
    look=look,
    judge=judge,
    bypassable=False,
    early=True,
    per_recipient=True,
)
