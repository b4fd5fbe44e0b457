"""The words of a mail's body, for the index: text parts and HTML without its tags. Pure.

Bounded in what it gives for any bytes; hostile mail can take long, so it runs in the child of
`control.quarantine.extracting`.
"""

import html
import re

import fast_mail_parser
import nh3

from control.quarantine import words
from control.quarantine.safeview import DROPPED

MAX_PART_CHARS = 300_000
"""Of all text parts, and of all HTML parts."""
MOST_WORDS = 8_000
"""Of one mail; PostgreSQL keeps places of words up to the 16,383rd (its manual, section 12.11)."""
MOST_BYTES = 400_000
"""Of one mail's words: a tsvector takes 1 MB, places included."""
_BLOCK = re.compile(r"<(?=/?(?:p|br|div|t[dhr]|li|h[1-6]|table|[uo]l|hr|blockquote|center|pre)\b)", re.IGNORECASE)
_HEAD_END = re.compile(rb"\r?\n\r?\n")


def of_mail(raw: bytes) -> str:
    """The words with a space between, for `to_tsvector('simple', …)`. Raises nothing that input could cause."""
    try:
        mail = fast_mail_parser.parse_email(raw)
    except fast_mail_parser.ParseError:
        return _cut(_as_it_is(raw))
    plain = "\n".join(mail.text_plain)[:MAX_PART_CHARS]
    marked_up = "\n".join(mail.text_html)[:MAX_PART_CHARS]
    return _cut(f"{plain}\n{of_html(marked_up)}")


def of_html(source: str) -> str:
    """The text of HTML: blocks apart, inline tags gone, so that `in<b>voi</b>ce` is one word, as it is seen."""
    if not source.strip():
        return ""
    return html.unescape(nh3.clean(_BLOCK.sub(" <", source), tags=set(), clean_content_tags=DROPPED))


def _cut(text: str) -> str:
    found = words.of_body(words.clean(text), MOST_WORDS)
    return found if len(found) * 4 <= MOST_BYTES else found.encode()[:MOST_BYTES].decode("utf-8", "ignore")


def _as_it_is(raw: bytes) -> str:
    """What is no MIME: all behind the header."""
    end = _HEAD_END.search(raw)
    body = raw[end.end() : end.end() + MAX_PART_CHARS] if end else b""
    return body.decode("utf-8", "replace")
