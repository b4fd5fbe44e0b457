"""Does the mail carry files that run?

A file counts by the end of its name, in the mail or inside an archive, and by its first bytes: a program that calls
itself a picture is found too. Archives that nobody can look into hide what they hold; each domain says whether it takes
them. A message that could not be taken apart is never clean: what happens to it is a setting of its own. The peer
hears `550 5.7.1 Attachments of this kind are not accepted` or `550 5.6.0 The message cannot be read`.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mx.filter import Action, Filter, FilterSettings, Message, Part, Seen, Tools, Verdict
from mx.filters.acts import AnyAct, AnyActOrOff, Finding, Points, verdict

PROGRAMS = frozenset({"pe", "elf", "macho", "lnk", "chm"})
"""Kinds by their first bytes (`mx.checks.magic`) that run."""
CLOSED = frozenset({"rar", "7z", "cab"})
"""Archives whose names `mx.checks.archive` does not read."""
CLOSED_DEFECTS = frozenset(
    {"unreadable archive", "archive nested too deep", "archive with too many names", "archive too big to look into"}
)
ENCRYPTED_DEFECT = "encrypted archive"
END_CHARS = 64
"""Of a name that are compared; an extension has at most 20."""
MOST_NAMES = 2000
"""Names of a mail that are compared."""
SHOWN = 10
"""Names that the evidence holds."""
TEXT = "Attachments of this kind are not accepted"

DANGEROUS = (
    "ade", "adp", "apk", "app", "appref-ms", "appx", "bat", "chm", "cmd", "com", "cpl", "dll", "dmg", "exe",
    "gadget", "hta", "iso", "jar", "js", "jse", "lnk", "mde", "msc", "msi", "msix", "msp", "mst", "pif", "ps1",
    "reg", "scf", "scr", "sct", "settingcontent-ms", "shb", "sys", "vb", "vbe", "vbs", "vhd", "vhdx", "vxd", "wsc",
    "wsf", "wsh", "xll",
)  # fmt: skip
"""What Windows runs or mounts at a double click; the large providers refuse nearly the same."""

_LOOKED_THROUGH = chain(range(0x3000), range(0xFE00, 0x10000), range(0xE0000, 0xE0100))
"""Blocks that have such characters; going through all of Unicode takes 0.1 s at each start."""
_NOT_SHOWN = {point: None for point in _LOOKED_THROUGH if unicodedata.category(chr(point)) in ("Cc", "Cf")}
"""Control characters, and format characters such as direction marks."""

Extension = Annotated[str, Meta(min_length=1, max_length=20, pattern=r"^[^\s./\\]+(\.[^\s./\\]+)*(?![\s\S])")]


class Settings(FilterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a domain can choose."""

    extensions: Annotated[
        tuple[Extension, ...],
        Meta(
            max_length=500,
            description="Ends of names that are not taken, without the dot.",
            extra={"label": "Kinds of files"},
        ),
    ] = DANGEROUS
    action: Annotated[
        AnyAct, Meta(description="What to do with a mail that carries one.", extra={"label": "Action"})
    ] = "refuse"
    archives: Annotated[
        Literal["look", "skip"],
        Meta(description="Look at the names inside archives too, or skip them.", extra={"label": "Inside archives"}),
    ] = "look"
    disguised: Annotated[
        AnyActOrOff,
        Meta(description="A program whose name does not say that it is one.", extra={"label": "Disguised programs"}),
    ] = "refuse"
    encrypted: Annotated[
        AnyActOrOff,
        Meta(description="An archive that opens with a password.", extra={"label": "Encrypted archives"}),
    ] = "off"
    closed: Annotated[
        AnyActOrOff,
        Meta(
            description="An archive that cannot be looked into: broken, nested too deep or too large; RAR, 7z, CAB.",
            extra={"label": "Closed archives"},
        ),
    ] = "off"
    when_unchecked: Annotated[
        Literal["pass", "hold", "refuse", "defer"],
        Meta(
            description="What to do with a message that could not be taken apart.", extra={"label": "Unreadable mail"}
        ),
    ] = "hold"
    points: Points = 8.0


class Facts(msgspec.Struct, frozen=True):
    """What the mail carries that the settings name; `unchecked` is "" or why nobody knows."""

    named: tuple[str, ...] = ()
    disguised: tuple[str, ...] = ()
    is_encrypted: bool = False
    is_closed: bool = False
    unchecked: str = ""


async def look(seen: Seen, settings: Settings, tools: Tools) -> Facts:
    """What the mail carries; names are compared here and not for each recipient, for there can be thousands."""
    return of(seen.message, settings)


def of(message: Message | None, settings: Settings) -> Facts:
    """What a message carries that the settings name. Of very many names the rest counts as closed."""
    if message is None or message.unchecked:
        return Facts(unchecked=message.unchecked if message else "it was not parsed")
    names = list(islice(_names(message.parts, settings), MOST_NAMES + 1))
    ends = tuple(f".{end.lower()}" for end in settings.extensions)
    named = (shown for shown, name in names[:MOST_NAMES] if true_end(name).endswith(ends))
    disguised = (part for part in message.parts if part.magic in PROGRAMS and not _says_so(part.filename))
    return Facts(
        tuple(named),
        tuple(part.filename or f"a part without a name ({part.content_type})" for part in disguised),
        is_encrypted=ENCRYPTED_DEFECT in message.defects,
        is_closed=_is_closed(message) or len(names) > MOST_NAMES,
    )


def judge(facts: Facts, settings: Settings) -> Verdict:
    """The strongest act over what was found."""
    if facts.unchecked:
        return _unchecked(facts.unchecked, settings)
    checks = (
        (bool(facts.named), settings.action, f"The mail carries {_list(facts.named)}"),
        (bool(facts.disguised), settings.disguised, f"A program is disguised as {_list(facts.disguised)}"),
        (facts.is_encrypted, settings.encrypted, "An archive is encrypted"),
        (facts.is_closed, settings.closed, "An archive cannot be looked into"),
    )
    found = [Finding(act, reason, TEXT, settings.points) for yes, act, reason in checks if yes]
    evidence = {"files": list(facts.named[:SHOWN]), "disguised": list(facts.disguised[:SHOWN])}
    return verdict(found, **(evidence if found else {}))


def true_end(name: str) -> str:
    """A file's name as the receiving system reads it: lower case, without what it does not show or does not count.

    Windows drops dots and spaces at the end; direction marks make "exe" be shown as part of another end.
    """
    if not (name.isascii() and name.isprintable()):
        name = unicodedata.normalize("NFKC", name.translate(_NOT_SHOWN).rstrip(". ")[-END_CHARS:])
    return name.lower().rstrip(". ")


def _unchecked(why: str, settings: Settings) -> Verdict:
    reason = f"The mail could not be taken apart: {why}"
    if settings.when_unchecked == "pass":
        return Verdict(Action.UNSURE, reason)
    return verdict([Finding(settings.when_unchecked, reason, "The message cannot be read", enhanced="5.6.0")])


def _names(parts: Sequence[Part], settings: Settings) -> Iterator[tuple[str, str]]:
    """Names as they are shown, and by themselves."""
    for part in parts:
        if part.filename:
            yield part.filename, part.filename
        if settings.archives == "look":
            yield from ((f"{member} in {part.filename}", member) for member in part.members)


def _is_closed(message: Message) -> bool:
    return bool(CLOSED_DEFECTS & set(message.defects)) or any(part.magic in CLOSED for part in message.parts)


def _says_so(name: str) -> bool:
    return true_end(name).endswith(tuple(f".{end}" for end in (*DANGEROUS, "bin", "so", "o", "ocx", "drv")))


def _list(names: Sequence[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


FILTER = Filter("attachments", "Does it carry files that run?", Settings, look=look, judge=judge)
