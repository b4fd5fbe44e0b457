"""Words and patterns, and what of a mail is searched for them."""

from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx.checks import patterns, text
from mx.checks.patterns import BadPattern
from mx.filter import Action, Part
from mx.filters import content
from mx.filters.content import Facts
from tests.mx.filters.tables import Case, complaint, hold_to, message, seen, settings_of, tools

WORD = Facts("word", "casino", "subject", "Casino!")
VERDICTS = [
    Case("nothing", Facts(), {}, Action.PASS),
    Case("a word", WORD, {}, Action.REFUSE, "The word “casino” stands in the subject"),
    Case("a pattern", Facts("pattern", "c.s", "text", "cas"), {}, Action.REFUSE, "“c.s” stands in the text"),
    Case("in a name", Facts("word", "x", "attachment_name", "x"), {}, Action.REFUSE, "name of an attachment"),
    Case("scored", WORD, {"action": "score", "points": 2}, Action.SCORE, "casino"),
    Case("held", WORD, {"action": "hold"}, Action.HOLD, "casino"),
    Case("tagged", WORD, {"action": "tag"}, Action.TAG, "casino"),
    Case("unread", Facts(unchecked="late"), {}, Action.UNSURE, "could not be taken apart: late"),
    Case("unread, but the subject is all that counts", Facts(unchecked="late"), {"where": "subject"}, Action.PASS),
    Case("found in what was read", Facts("word", "x", "subject", "x", "late"), {}, Action.REFUSE, "x"),
]


@pytest.mark.parametrize("case", VERDICTS, ids=lambda case: case.name)
def test_verdicts(case: Case) -> None:
    hold_to(content.FILTER, case)


WORDS = [
    ("casino", "Casino!", True),
    ("casino", "casinos", False),
    ("casino", "xcasino", False),
    ("casino*", "CASINOS", True),
    ("*casino", "onlinecasino", True),
    ("ca*no", "ca-si-no", True),
    ("ca*no", "ca no", False),
    ("casino bonus", "casino\r\n\t bonus", True),
    ("casino bonus", "casino\u00a0bonus", True),
    ("casino bonus", "casino, bonus", False),
    ("straße", "STRASSE", True),
    ("STRASSE", "straße", True),
    ("ΣΊΣΥΦΟΣ", "σίσυφος", True),
    ("café", "cafe\u0301", True),
    ("fi", "ﬁ", True),
    ("müll", "mülleimer", False),
    ("über", "drüber", False),
    ("виагра", "ВИАГРА!", True),
    ("$$$", "a$$$b", True),
    ("$100", "only $100 today", True),
    ("$100", "only $1000 today", False),
    ("c++", "in C++ and", True),
    ("100%", "100%", True),
    (".", "a.b", True),
    ("a.b", "axb", False),
    ("(", "(", True),
    ("\\d", "5", False),
    ("über", "vi\u00adagra \u200büb\u200ber", True),
]


@pytest.mark.parametrize(("word", "shown", "is_found"), WORDS, ids=[f"{row[0]}-in-{row[1]!r}" for row in WORDS])
def test_words_are_found_as_people_expect(word: str, shown: str, is_found: bool) -> None:
    hit = patterns.by_word((word,), text.plain(shown))
    assert (hit is not None) is is_found
    if hit:
        assert hit.wanted == word


def test_of_many_words_the_one_that_is_there_is_named() -> None:
    words = tuple(f"word{n}*" if n % 2 else f"word{n} end" for n in range(1000))
    hit = patterns.by_word(words, "so much text before word7x and word8 end " * 3)
    assert hit == ("word7*", "so much text before word7x and word8 end so much text before word7")


def test_an_excerpt_is_one_bounded_line() -> None:
    hit = patterns.by_pattern((".*x.*",), f"{'a' * 5000}\x00\x1b[31m{'x' * 5000}")
    assert hit is not None
    assert len(hit.excerpt) <= 6 * patterns.EXCERPT_CHARS
    assert hit.excerpt.isprintable()


@pytest.mark.parametrize(
    "pattern", ["(", "(?=x)", "(a)\\1", "x{2000}", "((x{90}){90})", "[", "\\", "a" * 201, "\ud800"]
)
def test_patterns_that_cannot_be_used_say_why(pattern: str) -> None:
    with pytest.raises(BadPattern) as error:
        patterns.compiled(pattern)
    assert str(error.value)


@given(st.text(max_size=60), st.text(max_size=200))
def test_any_pattern_is_used_or_refused(pattern: str, shown: str) -> None:
    try:
        patterns.compiled(pattern)
    except BadPattern:
        return
    patterns.by_pattern((pattern,), text.plain(shown))


@given(st.text(min_size=1, max_size=40), st.text(max_size=200))
def test_any_word_is_refused_or_found_where_it_stands_alone(word: str, around: str) -> None:
    if complaint(content.FILTER, {"words": [word]}) != ("", ""):
        return
    patterns.by_word((word,), text.plain(around))
    hit = patterns.by_word((word, "another"), text.plain(f"before {word} behind"))
    assert (hit is not None and hit.wanted == word) or "*" in text.plain(word)
    assert patterns.by_word((word,), "") is None


@pytest.mark.parametrize("word", ["\u200b", "＊", "\u00ad *", "\u2003", "\x1c"])
def test_a_word_that_would_be_found_in_every_mail_is_refused(word: str) -> None:
    assert complaint(content.FILTER, {"words": ["good", word]})[0].startswith("content.words")


def test_of_words_that_overlap_the_one_that_matched_is_named() -> None:
    hit = patterns.by_word(("cas", "asino*", "cas*", "cas no"), "the casino")
    assert hit is not None
    assert hit.wanted == "cas*"


HTML = [
    ("<p>vi<b></b>ag<span class='x'>ra</span>", " viagra"),
    ("one<br>two<td>three", "one two three"),
    ("<style>casino</style>x<script>if (a < b) casino</script>y", " x y"),
    ("<STYLE>casino</StYlE >x", " x"),
    ("a<!-- casino > --> b", "a b"),
    ("via<!-- x -->gra", "viagra"),
    ("<title>casino</title>x", " x"),
    ("1 < 2 &amp; 3 &gt; 2", "1 < 2 & 3 > 2"),
    ("&#99;asino", "casino"),
    ("x <a href='y", "x "),
    ("İİİİ<b>x</b><STYLE>y</STYLE>z", "İİİİx z"),
    ("<script>casino", ""),
    ("<", "<"),
    ("", ""),
]


@pytest.mark.parametrize(("source", "shown"), HTML, ids=[row[0] or "nothing" for row in HTML])
def test_html_is_searched_as_it_is_shown(source: str, shown: str) -> None:
    assert text.stripped(source) == shown


@pytest.mark.parametrize("piece", ["<", "<a ", "<!--", "<style>", "<style", "<!", "</", "&", "&#", "<b>", "<a <!-- "])
def test_html_that_repeats_one_piece_comes_to_an_end(piece: str) -> None:
    """With a step that is quadratic in the input this would take longer than the test may."""
    text.stripped(piece * (400_000 // len(piece)))


@given(st.text(alphabet="<>!-/abst y&#x;'\"", max_size=80))
def test_any_html_is_stripped(source: str) -> None:
    assert isinstance(text.stripped(source), str)


async def look(raw: bytes, **settings: Any) -> Facts:
    return await content.look(seen(raw), settings_of(content.FILTER, settings), tools())


def mail() -> bytes:
    made = EmailMessage()
    made["From"] = "ann@sender.test"
    made["Subject"] = "Grüße vom Casino"
    made.set_content("Das Wort Ärger steht im Text.")
    made.add_alternative("<p>Das ver<b>steckte</b> Wort</p>", subtype="html", cte="base64")
    made.add_attachment(b"x", maintype="application", subtype="octet-stream", filename="Rechnung März.pdf")
    return made.as_bytes().replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("settings", "what", "where"),
    [
        ({"words": ["casino"]}, "word", "subject"),
        ({"words": ["ärger"]}, "word", "text"),
        ({"words": ["versteckte"]}, "word", "text"),
        ({"words": ["märz.pdf"]}, "word", "attachment_name"),
        ({"patterns": [r"w.rt\s+ärger"]}, "pattern", "text"),
        ({"patterns": [r"^grüße"]}, "pattern", "subject"),
        ({"words": ["casino"], "where": "text"}, "", ""),
        ({"words": ["ärger"], "where": "subject"}, "", ""),
        ({"words": ["märz*"], "where": "attachment_name"}, "word", "attachment_name"),
        ({"words": ["nothing"], "patterns": ["no+thing"]}, "", ""),
        ({}, "", ""),
    ],
)
async def test_a_real_mail_is_searched_everywhere(settings: dict[str, Any], what: str, where: str) -> None:
    facts = await look(mail(), **settings)
    assert (facts.what, facts.where, facts.unchecked) == (what, where, "")


async def test_of_a_message_that_was_not_parsed_the_subject_is_searched() -> None:
    raw = b"Subject: =?utf-8?q?Casino?=\r\n\r\ncasino\r\n"
    session = seen(raw, message=message(unchecked="late"))
    found = await content.look(session, settings_of(content.FILTER, {"words": ["casino"]}), tools())
    assert (found.where, found.unchecked) == ("subject", "late")


@pytest.mark.parametrize("character", ["x", "é", "ﷺ"])
def test_no_more_than_the_bound_is_searched(character: str) -> None:
    """The last one is eighteen characters in composed form."""
    parts = tuple(Part("text/plain", text=character * 150_000) for _ in range(3))
    assert sum(len(each.text) for each in text.texts(message(parts=parts), b"")) == text.MOST_CHARS


@pytest.mark.parametrize(
    ("settings", "field", "says"),
    [
        ({"patterns": ["ok", "("]}, "content.patterns[1]", "missing )"),
        ({"patterns": ["x" * 201]}, "content.patterns[0]", "200"),
        ({"patterns": ["((x{90}){90})"]}, "content.patterns[0]", ""),
        ({"patterns": ["x"] * 51}, "content.patterns", "50"),
        ({"words": [1]}, "content.words[0]", "str"),
        ({"words": [" * "]}, "content.words[0]", ""),
        ({"words": ["x" * 101]}, "content.words[0]", "100"),
        ({"words": ["x"] * 1001}, "content.words", "1000"),
        ({"where": "body"}, "content.where", "body"),
        ({"action": "defer"}, "content.action", "defer"),
    ],
    ids=str,
)
def test_settings_that_are_refused(settings: dict[str, Any], field: str, says: str) -> None:
    where, reason = complaint(content.FILTER, settings)
    assert where == field
    assert says in reason


def test_the_largest_settings_are_taken() -> None:
    words = [f"{n:04}" + "ж" * 96 for n in range(1000)]
    assert complaint(content.FILTER, {"words": words, "patterns": [f"a{n}" for n in range(50)]}) == ("", "")
    assert patterns.by_word(words, f"x {words[-1].upper()} y") is not None
