"""How the panel says things: times, sizes, states and reasons in plain words, as Jinja2 filters."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

LABELS = {
    "kept": "Kept",
    "released": "Released",
    "deleted": "Deleted",
    "delivered": "Delivered",
    "later": "Kept for later",
    "refused": "Refused",
    "deferred": "Deferred",
    "abandoned": "Abandoned",
    "pass": "Pass",
    "allow": "Allow",
    "score": "Score",
    "tag": "Tag",
    "hold": "Hold",
    "refuse": "Refuse",
    "defer": "Defer",
    "unsure": "Unsure",
}
TONES = {
    "good": ("released", "delivered", "allow", "done", "on", "live", "joined"),
    "warn": ("deferred", "later", "hold", "defer", "tag", "unsure", "unknown", "stale", "draining", "loading"),
    "bad": ("refused", "refuse", "failed", "unsynced"),
    "info": ("shadow", "running", "queued"),
}
_TONE_OF = {word: tone for tone, words in TONES.items() for word in words}
TITLES = {"dnsbl": "Block lists", "spf": "SPF", "helo": "HELO", "gtube": "Test mail"}
"""Names of filters that are no plain words."""
REASONS = {
    "score": "Score",
    "next_hop": "Refused by your server",
    "unknown_user": "Unknown recipient",
    "dnsbl": "Block list",
}
OUTCOME_COLOURS = {"delivered": 0, "later": 1, "kept": 2, "refused": 3, "abandoned": 5, "deferred": 6}
"""Outcome → its colour's number in the style sheet, the same on every page."""
CLIPPED_ITEMS = 20
"""Items of a list that evidence and diffs show; the rest is counted."""


def label(word: str) -> str:
    """A state or action as the panel names it."""
    return LABELS.get(word, words(word))


def tone(word: str) -> str:
    """CSS class of a state: good, warn, bad, info or "" for neutral."""
    return _TONE_OF.get(word, "")


def reason(word: str) -> str:
    """A reason class (a filter's name, "score", "next_hop") in words."""
    return REASONS.get(word) or title(word) or "Other"


def title(name: str) -> str:
    """A filter or section by its name in the panel."""
    return TITLES.get(name) or words(name)


def words(name: str) -> str:
    """An identifier as words: "early_talker" → "Early talker"."""
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def sender(address: str) -> str:
    """An envelope sender; the null sender by its meaning."""
    return address or "(a bounce or notice)"


def moment(value: datetime | date | float | str) -> datetime:
    """Any form in which a store hands out a time, as an aware UTC datetime."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def iso(value: datetime | date | float | str) -> str:
    """For the `datetime` attribute."""
    return moment(value).isoformat(timespec="seconds")


def stamp(value: datetime | date | float | str) -> str:
    """Date and time to the second."""
    return moment(value).strftime("%-d %b %Y, %H:%M:%S")


def clock(value: datetime | date | float | str) -> str:
    """Hours and minutes."""
    return moment(value).strftime("%H:%M")


def day(value: datetime | date | float | str) -> str:
    """Weekday and date."""
    return moment(value).strftime("%A, %-d %B %Y")


def age(seconds: float) -> str:
    """A duration in its one or two largest units: "41 ms", "0.4 s", "12 s", "3 min", "2 h", "5 days"."""
    if seconds < 0.1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    for limit, unit, form in (
        (10, 1, "{:.1f} s"),
        (120, 1, "{:.0f} s"),
        (7200, 60, "{:.0f} min"),
        (172800, 3600, "{:.0f} h"),
    ):
        if seconds < limit:
            return form.format(seconds / unit)
    return f"{seconds / 86400:.0f} days"


def ago(value: datetime | date | float | str) -> str:
    """How long ago, for humans."""
    seconds = (datetime.now(UTC) - moment(value)).total_seconds()
    return "just now" if seconds < 5 else f"{age(seconds)} ago"


def size(count: float) -> str:
    """Bytes with a decimal unit."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def number(count: float) -> str:
    """A count with thin groups of thousands."""
    return f"{count:,.0f}".replace(",", "\u202f")


def millis(ms: float) -> str:
    """Time a check took."""
    return "" if ms <= 0 else "<0.1 ms" if ms < 0.1 else f"{ms:.1f} ms" if ms < 100 else age(ms / 1000)


def plain(value: Any) -> str:
    """Evidence and settings values as text: lists by commas, clipped; objects as "name: value"."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {plain(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        shown = ", ".join(plain(part) for part in value[:CLIPPED_ITEMS])
        more = len(value) - CLIPPED_ITEMS
        return f"{shown} and {more} more" if more > 0 else shown or "none"
    return str(value)


def anchor(path: str) -> str:
    """The id of a settings field's control: "content.words[2]" → "f-content-words"."""
    return "f-" + path.partition("[")[0].replace(".", "-")


FILTERS: Mapping[str, Callable[..., str]] = {
    each.__name__: each
    for each in (
        label, tone, reason, title, words, sender,
        iso, stamp, clock, day, ago, age, size, number, millis, plain, anchor,
    )
}  # fmt: skip
