"""The header pass and the documented edits, byte for byte."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mx.headers import cleaned, fields, split, summaries, summary
from mx.server import HEADER_BYTES

OURS = "mx1.mxfleet.test"

EDITS = [
    ("nothing to do", b"Subject: x\r\n\r\nbody\r\n", "", None),
    ("tag", b"A: b\r\nSubject: x\r\n\r\nbody", "[?]", b"A: b\r\nSubject: [?] x\r\n\r\nbody"),
    ("tag once", b"Subject: [?] x\r\n\r\nbody", "[?]", None),
    ("tag keeps folds", b"SUBJECT:  x\r\n y\r\nB: c\r\n\r\n", "[?]", b"Subject: [?] x\r\n y\r\nB: c\r\n\r\n"),
    ("no subject", b"A: b\r\n\r\nbody", "[?]", b"Subject: [?]\r\nA: b\r\n\r\nbody"),
    ("no header", b"\r\nbody", "[?]", b"Subject: [?]\r\n\r\nbody"),
    (
        "forged results go",
        b"Authentication-Results: mx1.mxfleet.test;\r\n\tspf=pass\r\nSubject: x\r\n\r\nbody",
        "",
        b"Subject: x\r\n\r\nbody",
    ),
    (
        "whatever the case, and behind a comment",
        b"A: b\r\nauthentication-results: (hi) MX1.mxfleet.TEST 1; none\r\n\r\nbody",
        "",
        b"A: b\r\n\r\nbody",
    ),
    ("others' results stay", b"Authentication-Results: other.test; spf=pass\r\n\r\nbody", "", None),
    ("a body that looks like it stays", b"A: b\r\n\r\nAuthentication-Results: mx1.mxfleet.test; x\r\n", "", None),
]


@pytest.mark.parametrize(("case", "raw", "tag", "edited"), EDITS, ids=[case for case, *_ in EDITS])
def test_edits(case: str, raw: bytes, tag: str, edited: bytes | None) -> None:
    assert cleaned(raw, OURS, tag) == (raw if edited is None else edited)


def test_what_needs_no_edit_is_not_copied() -> None:
    raw = b"Subject: x\r\n\r\nbody\r\n"
    assert cleaned(raw, OURS, "") is raw


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b" plain ", "plain"),
        (b" folded\r\n text", "folded text"),
        (b"=?utf-8?q?J=C3=BCrg?= x", "Jürg x"),
        (b"=?utf-8?b?4pyT?=", "✓"),
        (b"=?no-such?q?x?=", "=?no-such?q?x?="),
        (b"\xff raw", "\ufffd raw"),
        (b"=?utf-8?q?a=0D=0Ab?=", "a  b"),
        (b"nul\x00 esc\x1b[31m", "nul  esc [31m"),
        (b"x" * 10_000, "x" * 500),
    ],
)
def test_summary(value: bytes, shown: str) -> None:
    assert summary(value) == shown


@given(st.binary(max_size=300))
def test_any_header_can_be_read(raw: bytes) -> None:
    for field in fields(raw):
        assert field.start < field.value_start <= field.end <= split(raw)
        assert field.name == field.name.lower()
    subject = summaries(b"Subject: " + raw + b"\r\n", b"subject").get(b"subject", "")
    assert subject == "" or subject.isprintable()
    for tag in ("", "[?]"):
        assert cleaned(raw, OURS, tag).endswith(raw[split(raw) :])


def test_summaries_are_those_of_the_first_fields() -> None:
    raw = b"Subject: one\r\nFrom: a\r\nsubject: two\r\n\r\nSubject: three\r\n"
    assert summaries(raw, b"subject", b"from", b"date") == {b"subject": "one", b"from": "a"}


@pytest.mark.parametrize(
    "line", [b"a:b\r\n", b"Authentication-Results:mx1.mxfleet.test\r\n", b"Subject: x\r\n", b"x\r\n"]
)
def test_a_header_of_very_many_fields_costs_no_memory(line: bytes) -> None:
    raw = line * (HEADER_BYTES // len(line))
    tracemalloc.start()
    try:
        summaries(raw, b"subject", b"from")
        cleaned(raw, OURS, "")
        cleaned(raw, OURS, "[?]")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(raw)
