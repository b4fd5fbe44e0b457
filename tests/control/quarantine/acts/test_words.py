"""What a search means, by table, and for any text whatever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.quarantine import words


@pytest.mark.parametrize(
    ("typed", "query"),
    [
        ("", ""),
        ("zebra", "('zebra')"),
        ("two words", "('two') & ('words')"),
        ("two AND words", "('two') & ('words')"),
        ('"two words"', "('two' <-> 'words')"),
        ('"never closed', "('never' <-> 'closed')"),
        ("-zebra", "!('zebra')"),
        ('-"two words"', "!('two' <-> 'words')"),
        ("zeb*", "('zeb':*)"),
        ("-zeb*", "!('zeb':*)"),
        ("ann@sender.test", "('ann' <-> 'sender' <-> 'test')"),
        ("@sender.te*", "('sender' <-> 'te':*)"),
        ("it's", "('it' <-> 's')"),
        ("don't | & ! :* ( ) \\ '", "('don' <-> 't')"),
        ("größe", "('größe')"),
        ("a\x00b \ud800c", "('ab') & ('c')"),
        ("...", ""),
        ("-", ""),
        ("*", ""),
        ('""', ""),
    ],
)
def test_what_is_typed_becomes(typed: str, query: str) -> None:
    assert words.tsquery(typed) == query


def test_index_and_search_take_text_apart_alike() -> None:
    assert words.indexed("Re: zebra-42", "Ann <ann@sender.test>") == "Re zebra 42 Ann ann sender test"


def test_too_many_words_are_refused_in_words() -> None:
    words.tsquery(" ".join("w" * words.MOST_TERMS))
    with pytest.raises(ValueError, match="at most 32 words"):
        words.tsquery("w " * (words.MOST_TERMS + 1))


@given(st.text())
def test_any_text_has_a_query_of_quoted_words_alone(typed: str) -> None:
    try:
        query = words.tsquery(typed)
    except ValueError:
        return
    for each in ("'", "<->", ":*", "!", "&", "(", ")", " "):
        query = query.replace(each, "")
    assert query == "" or query.replace("_", "").isalnum() or not query.isascii()
