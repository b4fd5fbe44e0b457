"""What may be typed into the search: every field by table, errors with their place, and any text whatever."""

from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.quarantine import grammar
from control.quarantine.grammar import FIELDS, FREE, Term, Wrong
from tests.control.quarantine.rows import day


@pytest.mark.parametrize(
    ("typed", "terms"),
    [
        ("", []),
        ("  ", []),
        ("cheap zebras", [Term(FREE, "cheap"), Term(FREE, "zebras")]),
        ("cheap AND zebras", [Term(FREE, "cheap"), Term(FREE, "zebras")]),
        ('"two words"', [Term(FREE, "two words")]),
        ('"never closed', [Term(FREE, "never closed")]),
        ("-zebra", [Term(FREE, "zebra", is_negated=True)]),
        ("-AND", [Term(FREE, "AND", is_negated=True)]),
        ("zeb*", [Term(FREE, "zeb*", is_beginning=True)]),
        ('"zeb*"', [Term(FREE, "zeb*")]),
        ('... - * "" | & ! :*', []),
        ("from:ann@a.test", [Term("from", "ann@a.test")]),
        ("FROM:<>", [Term("from", "<>")]),
        ("-to:@b.test", [Term("to", "@b.test", is_negated=True)]),
        ('subject:"your invoice"', [Term("subject", "your invoice")]),
        ("subject:inv*", [Term("subject", "inv*", is_beginning=True)]),
        ("body:x", [Term("body", "x")]),
        ("ip:192.0.2.7/24", [Term("ip", IPv4Network("192.0.2.0/24"))]),
        ("reason:dnsbl filter:spf node:mx1", [Term("reason", "dnsbl"), Term("filter", "spf"), Term("node", "mx1")]),
        ("score:>8", [Term("score", 8.0, ">")]),
        ("score:-1.5", [Term("score", -1.5, ">=")]),
        ("size:<=1.5M", [Term("size", 1_500_000, "<=")]),
        ("size:10kB", [Term("size", 10_000, ">=")]),
        ("has:attachment", [Term("has", "attachment")]),
        ("before:2026-11-24", [Term("before", day(2026, 11, 24))]),
        ("after:2026-11-24", [Term("after", day(2026, 11, 25))]),
        ("after:9999-12-31", [Term("after", day(9999, 12, 31))]),
        ("is:RELEASED", [Term("is", "released")]),
        ("re: 12:30 http://x.test", [Term(FREE, "re"), Term(FREE, "12:30"), Term(FREE, "http://x.test")]),
    ],
)
def test_what_is_typed_means(typed: str, terms: list[Term]) -> None:
    assert list(grammar.parse(typed)) == terms


@pytest.mark.parametrize(
    ("typed", "marked", "says"),
    [
        ("a frm:ann", "frm:", "did you mean from:?"),
        ("a xyzzy:ann", "xyzzy:", 'put it in quotes: "xyzzy:…"'),
        ("a from: ann", "from:", "nothing behind it"),
        ("a size:big b", "size:big", "like size:>1M"),
        ("score:>x", "score:>x", "a number"),
        ("size:-1", "size:-1", "bytes"),
        ("size:>²", "size:>²", "bytes"),
        ("ip:nowhere", "ip:nowhere", "an address or a network"),
        ("has:zebras", "has:zebras", "write attachment"),
        ("before:yesterday", "before:yesterday", "like before:2026-11-24"),
        ("before:2026-02-30", "before:2026-02-30", "a day"),
        ("is:gone", "is:gone", "kept, released or deleted"),
        ("subject:...", "subject:...", "a word"),
        ('-body:""', 'body:""', "nothing behind it"),
        ("w " * 33, "w ", "at most 32 words"),
    ],
)
def test_what_cannot_be_read_is_marked_and_says_what_to_write(typed: str, marked: str, says: str) -> None:
    with pytest.raises(Wrong) as wrong:
        grammar.parse(typed)
    assert typed[wrong.value.start : wrong.value.end] == marked
    assert says in str(wrong.value)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_the_example_of_every_field_can_be_typed(field: grammar.Field) -> None:
    (term,) = grammar.parse(field.example)
    assert term.name == field.name
    for value in field.values:
        assert grammar.parse(f"{field.name}:{value}")[0].value == value


PIECES = st.lists(
    st.one_of(
        st.sampled_from([*(f"{field.name}:" for field in FIELDS), "-", '"', " ", ">", "<=", "2026-11-24", "1M", "*"]),
        st.text(max_size=5),
    ),
    max_size=12,
)


@given(PIECES.map("".join))
def test_any_text_has_terms_or_a_marked_error(typed: str) -> None:
    wrong: Wrong | None = None
    terms: tuple[Term, ...] = ()
    try:
        terms = grammar.parse(typed)
    except Wrong as error:
        wrong = error
    assert wrong is None or (0 <= wrong.start < wrong.end <= len(typed) and str(wrong))
    assert len(terms) <= grammar.MOST_TERMS
    names: list[Any] = [term.name for term in terms]
    assert set(names) <= {FREE, *grammar.BY_NAME}
