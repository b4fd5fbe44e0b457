"""Why a mail was kept, in one sentence, and the setting that would change it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from control.web import words
from mx.filters import BY_NAME
from syncd.spool.record import Judgement

SETTING_OF = {"score": "scoring", "next_hop": "delivery", "unknown_user": "recipient_list"}
"""Where to change what a reason that is no filter came from."""


@dataclass(frozen=True, slots=True)
class Link:
    """A place in the panel with its words."""

    href: str
    text: str


def sentence(reason: str, text: str, judgements: Iterable[Judgement] = ()) -> str:
    """The recorded sentence; without one, what the verdict that acted says; at the least, the class of the reason."""
    if text:
        return ended(text)
    acted = next((each.reason for each in judgements if each.acted and each.reason), "")
    return ended(acted or f"Kept for this reason: {words.reason(reason).lower()}")


def change(domain: str, reason: str, filter_name: str = "") -> Link | None:
    """The group of settings that decided; None when no setting did."""
    for name in (filter_name, reason, SETTING_OF.get(reason, "")):
        if name in BY_NAME:
            return Link(f"/domains/{quote(domain)}/settings#g-{name}", f"the “{words.words(name)}” settings")
    return None


def in_order(judgements: Sequence[Judgement]) -> list[Judgement]:
    """The verdict that acted first, then what objected, then the rest, each in the order judged."""
    return sorted(judgements, key=lambda each: (not each.acted, each.action == "pass"))


def ended(text: str) -> str:
    """A sentence with its full stop."""
    text = text.strip()
    return text if text[-1:] in ".!?" else f"{text}."
