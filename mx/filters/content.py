"""Does the mail say what the domain does not want to read?

Words are searched whole, without regard to case, in what a reader sees: subject, decoded text, HTML without its tags,
and names of attachments; a space stands for any white space, and `*` for anything but white space. Patterns are
regular expressions in the syntax of RE2, which has no look-around and no references back, and is never slow; they
too ignore case. The first 200,000 characters of a mail are searched. Of a message that could not be taken apart only
the subject is known: the filter is then unsure, never content. The peer hears
`550 5.7.1 Message refused by the recipient's policy`.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mx.checks import patterns
from mx.checks.patterns import BadPattern, Hit
from mx.checks.text import Text, texts
from mx.filter import Action, BadSetting, Filter, FilterSettings, Seen, Tools, Verdict
from mx.filters.acts import AnyAct, Finding, Points, verdict

SMALL_BYTES = 16 * 1024
"""Words are found in so little text before a thread would have begun; a pattern can take longer."""

Place = Literal["everywhere", "subject", "text", "attachment_name"]
PLACES = {"subject": "the subject", "text": "the text", "attachment_name": "the name of an attachment"}

Word = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"[^\s*]")]
Pattern = Annotated[str, Meta(min_length=1, max_length=patterns.PATTERN_BYTES)]


class Settings(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a domain can choose."""

    words: Annotated[
        tuple[Word, ...],
        Meta(
            max_length=1000,
            description="Words or phrases; case does not matter, * stands for any ending or beginning.",
            extra={"label": "Words", "placeholder": "miracle pills\ncasino*"},
        ),
    ] = ()
    patterns: Annotated[
        tuple[Pattern, ...],
        Meta(
            max_length=50,
            description="Regular expressions (RE2); case does not matter.",
            extra={"label": "Patterns", "placeholder": r"\bbit ?coins?\b"},
        ),
    ] = ()
    where: Annotated[Place, Meta(description="Where to look.", extra={"label": "Where"})] = "everywhere"
    action: Annotated[AnyAct, Meta(description="What to do with a mail that holds one.", extra={"label": "Action"})] = (
        "refuse"
    )
    points: Points = 5.0

    def __post_init__(self) -> None:
        for number, pattern in enumerate(self.patterns):
            try:
                patterns.compiled(pattern)
            except BadPattern as error:
                raise BadSetting(f"patterns[{number}]", str(error)) from error
        try:
            patterns.any_word(self.words)
        except BadPattern as error:
            raise BadSetting("words", str(error)) from error


class Facts(msgspec.Struct, frozen=True):
    """What was found first, and why the rest of the message could not be searched ("" when it was)."""

    what: Literal["", "word", "pattern"] = ""
    wanted: str = ""
    where: str = ""
    excerpt: str = ""
    unchecked: str = ""


async def look(seen: Seen, settings: Settings, tools: Tools) -> Facts:
    """What is found first. What may take milliseconds runs in a thread, for RE2 leaves the others running."""
    if len(seen.raw) <= SMALL_BYTES and not settings.patterns:
        return search(seen, settings)
    return await asyncio.to_thread(search, seen, settings)


def search(seen: Seen, settings: Settings) -> Facts:
    """What is found first, words before patterns."""
    unchecked = seen.message.unchecked if seen.message else "the message was not parsed"
    wanted = [each for each in texts(seen.message, seen.raw) if settings.where in ("everywhere", each.where)]
    found = _first("word", patterns.by_word, settings.words, wanted)
    found = found or _first("pattern", patterns.by_pattern, settings.patterns, wanted)
    return msgspec.structs.replace(found or Facts(), unchecked=unchecked)


def judge(facts: Facts, settings: Settings) -> Verdict:
    """The chosen act for what was found; unsure when nothing was and not everything could be read."""
    if facts.what:
        place = PLACES.get(facts.where, facts.where)
        reason = f"The {facts.what} “{facts.wanted}” stands in {place}"
        evidence = {facts.what: facts.wanted, "where": facts.where, "excerpt": facts.excerpt}
        return verdict([Finding(settings.action, reason, points=settings.points)], **evidence)
    if facts.unchecked and settings.where != "subject":
        return Verdict(Action.UNSURE, f"The mail could not be taken apart: {facts.unchecked}")
    return verdict(())


def _first(
    what: Literal["word", "pattern"],
    find: Callable[[Sequence[str], str], Hit | None],
    listed: Sequence[str],
    searched: Iterable[Text],
) -> Facts | None:
    for each in searched:
        if hit := find(listed, each.text):
            return Facts(what, hit.wanted, each.where, hit.excerpt)
    return None


FILTER = Filter("content", "Does it hold words that you do not want?", Settings, look=look, judge=judge)
