"""A mail as it can be looked at safely: sanitised HTML without script and without anything from outside.

What is shown never fetches, runs or navigates: remote images are counted and left out, pictures that came inside the
mail become `data:` addresses, links lose their function and show where they lead. `render` is bounded in what it
gives for any input, but hostile mail can take long or much memory: `control.quarantine.viewing` runs it in a child.
"""

import html
import re
from base64 import b64encode
from collections.abc import Mapping

import fast_mail_parser
import msgspec
import nh3

from control.quarantine import fields

MAX_HTML_CHARS = 1_000_000
MAX_TEXT_CHARS = 500_000
MAX_PICTURE_BYTES = 500_000
MAX_PICTURES_BYTES = 3_000_000
"""Of all pictures in one view; `data:` addresses take a third more."""
MAX_ATTACHMENTS = 200
MAX_NAME_CHARS = 200
PICTURES = {"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"}
"""Raster formats alone: SVG is a document with script."""

TAGS = nh3.ALLOWED_TAGS - {"map", "area"} | {"font", "center", "big", "section", "article", "main", "u", "s"}
DROPPED = {"script", "style", "title", "template", "noscript", "iframe", "object", "svg", "math", "textarea", "select"}
"""Tags whose content is no text of the mail."""
STYLES = {
    "color", "background-color", "font", "font-family", "font-size", "font-style", "font-weight", "line-height",
    "text-align", "text-decoration", "text-transform", "vertical-align", "white-space", "letter-spacing", "direction",
    "margin", "margin-top", "margin-right", "margin-bottom", "margin-left",
    "padding", "padding-top", "padding-right", "padding-bottom", "padding-left",
    "border", "border-top", "border-right", "border-bottom", "border-left", "border-color", "border-style",
    "border-width", "border-radius", "border-collapse", "border-spacing", "width", "max-width", "height", "display",
}  # fmt: skip
"""Properties that cannot fetch and cannot lay one thing over another."""
_SIZES = {"align", "valign", "width", "height", "bgcolor", "dir"}
_CELL = _SIZES | {"colspan", "rowspan", "nowrap"}
ATTRIBUTES = {
    "*": {"style", "dir", "align"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "font": {"color", "face", "size"},
    "table": _SIZES | {"border", "cellpadding", "cellspacing"},
    "tr": _SIZES,
    "td": _CELL,
    "th": _CELL,
    "ol": {"start", "type"},
}
SCHEMES = {"http", "https", "mailto", "tel", "ftp", "cid", "data"}
_LINKED = {"http:", "https:", "mailto:", "tel:", "ftp:"}
_FETCHES = re.compile(r"url|image|expression|[\\@<]", re.IGNORECASE)
_LINK = re.compile(r'<a((?: [a-z]+="[^"]*")*?) href="')
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]*")
_PAGE = """<!doctype html>
<html><head><meta charset="utf-8"><title>Mail</title><style>
body {{ margin: 16px; font: 14px/1.5 system-ui, sans-serif; color: #1a1d24; background: #fff;
  overflow-wrap: anywhere; }}
img {{ max-width: 100%; height: auto; }} table {{ max-width: 100%; }} pre {{ white-space: pre-wrap; margin: 0; }}
a {{ color: #3148c8; text-decoration: underline; }}
a[data-target]::after {{ content: " [" attr(data-target) "]"; color: #636977; font-size: 12px; }}
</style></head><body>{}</body></html>
"""


class Attachment(msgspec.Struct, frozen=True):
    """A part of the mail that is no text to be read here."""

    name: str
    content_type: str
    size_bytes: int


class SafeView(msgspec.Struct, frozen=True):
    """What may be shown. `html` is a whole document, of the text where the mail has no HTML (`is_html`).

    `note` says in words what is not as it was sent; "" when nothing is missing but remote content.
    """

    html: str
    text: str
    is_html: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()
    blocked_images: int = 0
    note: str = ""


def render(raw: bytes) -> SafeView:
    """The safe view of any bytes; what is no readable MIME is shown as text. Raises nothing that input could cause."""
    try:
        mail = fast_mail_parser.parse_email(raw)
    except fast_mail_parser.ParseError:
        return plain(raw, "This mail cannot be taken apart as MIME; it is shown as it is.")
    source, cut = _joined(mail.text_html, MAX_HTML_CHARS)
    text, text_cut = _joined(mail.text_plain, MAX_TEXT_CHARS)
    cleaner = _Cleaner(_pictures(mail))
    shown = cleaner.clean(source) if source.strip() else ""
    if shown and not text.strip():
        text = words_of(shown[:MAX_TEXT_CHARS])
    return SafeView(
        html=_PAGE.format(shown or _preformatted(text)),
        text=text,
        is_html=bool(shown),
        headers=fields.shown(raw),
        attachments=_attachments(mail),
        blocked_images=cleaner.blocked,
        note="This mail is very long; only its beginning is shown." if cut or text_cut else "",
    )


def plain(raw: bytes, note: str) -> SafeView:
    """The beginning of the bytes as text, where nothing better can be had."""
    text = raw[:MAX_TEXT_CHARS].decode("utf-8", "replace").replace("\x00", "\ufffd")
    return SafeView(html=_PAGE.format(_preformatted(text)), text=text, headers=fields.shown(raw), note=note)


def words_of(cleaned: str) -> str:
    """The text of sanitised HTML: tags off, blocks on lines of their own."""
    apart = re.sub(r"<(?:br|/p|/div|/tr|/h[1-6]|/li|/table)\b[^>]*>", "\n", cleaned)
    lines = (line.strip() for line in html.unescape(re.sub(r"<[^>]*>", "", apart)).splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _Cleaner:
    """Sanitises one mail's HTML with the pictures that came in it; counts what would have come from outside."""

    def __init__(self, pictures: Mapping[str, str]) -> None:
        self.blocked = 0
        self._pictures = pictures
        self._room = MAX_PICTURES_BYTES * 4 // 3

    def clean(self, source: str) -> str:
        """The HTML as it may be shown."""
        cleaned = nh3.clean(
            source,
            tags=TAGS,
            clean_content_tags=DROPPED,
            attributes=ATTRIBUTES,
            attribute_filter=self._attribute,
            filter_style_properties=STYLES,
            url_schemes=SCHEMES,
            link_rel=None,
            strip_comments=True,
        )
        # Sanitised output quotes every value, and no "<" is left in text or values: this hits links alone.
        return _LINK.sub(r'<a\1 data-target="', cleaned)

    def _attribute(self, tag: str, name: str, value: str) -> str | None:
        if name == "src":
            return self._picture(value.strip()) if tag == "img" else None
        if name == "href":
            address = value.strip()
            return address.replace("<", "%3C") if address.partition(":")[0].lower() + ":" in _LINKED else None
        if name == "style":
            return ";".join(each for each in value.split(";") if not _FETCHES.search(each))
        return value.replace("<", "‹")

    def _picture(self, address: str) -> str | None:
        if address[:4].lower() == "cid:":
            found = self._pictures.get(address[4:].strip("<> "), "")
        elif address[:5].lower() == "data:":
            kind, _, content = address[5:].partition(";base64,")
            fits = kind.lower() in PICTURES and len(address) < MAX_PICTURE_BYTES * 4 // 3
            found = address if fits and _BASE64.fullmatch(content) else ""
        else:
            self.blocked += 1
            return None
        self._room -= len(found)
        return found if found and self._room >= 0 else None


def _pictures(mail: fast_mail_parser.PyMail) -> dict[str, str]:
    """`data:` addresses of the raster pictures in the mail by their Content-ID (RFC 2392)."""
    found: dict[str, str] = {}
    room = MAX_PICTURES_BYTES
    for part in mail.attachments[:MAX_ATTACHMENTS]:
        kind = part.mimetype.lower()
        if part.content_id and kind in PICTURES and len(part.content) <= min(MAX_PICTURE_BYTES, room):
            room -= len(part.content)
            found[part.content_id.strip("<> ")] = f"data:{kind};base64,{b64encode(part.content).decode()}"
    return found


def _attachments(mail: fast_mail_parser.PyMail) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(
            fields.printable(part.filename)[:MAX_NAME_CHARS] or "without a name",
            fields.printable(part.mimetype)[:MAX_NAME_CHARS],
            len(part.content),
        )
        for part in mail.attachments[:MAX_ATTACHMENTS]
    )


def _joined(parts: list[str], most: int) -> tuple[str, bool]:
    """The parts behind each other, cut to a length, and whether anything was cut."""
    text = "\n".join(parts).replace("\x00", "\ufffd")
    return text[:most], len(text) > most


def _preformatted(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"
