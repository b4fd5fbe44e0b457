"""Paging by cursor that survives Back: the way back is carried in the address. Pure."""

from collections.abc import Mapping
from urllib.parse import urlencode

TRAIL = 30
"""Pages the way back remembers; beyond it Newer leads to the newest page."""


def links(path: str, asked: Mapping[str, str], cursor: str, trail: str, following: str | None) -> tuple[str, str]:
    """Addresses of the newer and the older page, "" where there is none.

    `trail` is the cursors of the pages before this one, joined by "~"; "-" stands for the first page.
    """
    behind = [each for each in trail.split("~") if each]
    newer = older = ""
    if cursor:
        back = behind[-1] if behind else "-"
        newer = address(path, {**asked, "cursor": "" if back == "-" else back, "trail": "~".join(behind[:-1])})
    if following:
        way = [*behind, cursor or "-"][-TRAIL:]
        older = address(path, {**asked, "cursor": following, "trail": "~".join(way)})
    return newer, older


def address(path: str, asked: Mapping[str, str]) -> str:
    """`path` with the parameters that are set."""
    query = urlencode({name: value for name, value in asked.items() if value})
    return f"{path}?{query}" if query else path
