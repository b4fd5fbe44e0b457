"""How words are told apart and asked for, by table, and for any text whatever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.quarantine import words
from control.quarantine.words import Part


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("", ""),
        ("zebra", "('zebra')"),
        ("two words", "('two' <-> 'words')"),
        ("ann@sender.test", "('ann' <-> 'sender' <-> 'test')"),
        ("it's", "('it' <-> 's')"),
        ("don't | & ! :* ( ) \\ '", "('don' <-> 't')"),
        ("größe", "('größe')"),
        ("a\x00b \ud800c", "('ab' <-> 'c')"),
        ("...", ""),
    ],
)
def test_a_text_becomes_words_in_a_row(text: str, term: str) -> None:
    assert words.in_a_row(text) == term
    assert words.all_of(text) == term.replace("<->", "&")


def test_a_part_of_the_mail_and_a_beginning_are_marks_of_the_words() -> None:
    assert words.in_a_row("two words", Part.SUBJECT) == "('two':A <-> 'words':A)"
    assert words.in_a_row("two wor", Part.BODY, is_beginning=True) == "('two':D <-> 'wor':*D)"
    assert words.in_a_row("wor", is_beginning=True) == "('wor':*)"


def test_index_and_search_take_text_apart_alike() -> None:
    assert words.indexed("Re: zebra-42", "Ann <ann@sender.test>") == "Re zebra 42 Ann ann sender test"


def test_a_header_is_four_lines_whatever_stands_in_it() -> None:
    lines = words.of_header("a\nb", ("c@d.test", ""), "e@f.test", ("g.pdf", "h"), 100)
    assert lines == "a b\nc d test\ne f test\ng pdf h"
    assert words.of_header("a" * 50, (), "", (), 10) == "a" * 10


def test_what_is_too_long_for_a_word_is_left_out_of_bodies() -> None:
    assert words.of_body("one " + "x" * 65 + " two three", 2) == "one two"


@given(st.text())
def test_any_text_gives_quoted_words_alone(text: str) -> None:
    term = words.in_a_row(text, Part.BODY, is_beginning=True)
    for each in ("':*D", "':D", "'", "<->", "(", ")", " "):
        term = term.replace(each, "")
    assert term == "" or term.isalnum() or not term.isascii()
