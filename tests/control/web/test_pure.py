"""The panel's rules that need no loop: words, charts, paging, forms, diffs, propagation, sentences."""

from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from control.web import asked, changes, charts, formdata, paging, spread, verdict, words
from syncd.spool.record import Judgement


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.041, "41 ms"),
        (0.4, "0.4 s"),
        (12, "12 s"),
        (180, "3 min"),
        (7200, "2 h"),
        (432000, "5 days"),
    ],
)
def test_age_names_its_largest_unit(seconds: float, text: str) -> None:
    assert words.age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (48_000_000, "48 MB"), (5e9, "5.0 GB")]
)
def test_size(count: float, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (None, "none"),
        ([], "none"),
        (["a", "b"], "a, b"),
        ({"ip": "192.0.2.1", "zones": ["x"]}, "ip: 192.0.2.1; zones: x"),
        (list(range(30)), ", ".join(str(n) for n in range(20)) + " and 10 more"),
    ],
)
def test_plain_shows_any_evidence(value: Any, text: str) -> None:
    assert words.plain(value) == text


def test_a_time_without_a_zone_is_utc() -> None:
    assert words.stamp(datetime(2026, 11, 24, 10, 0, 1)) == "24 Nov 2026, 10:00:01"
    assert words.stamp(date(2026, 11, 24)) == words.stamp("2026-11-24T00:00:00+00:00")


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.03, 0.05), (1, 1), (7, 10), (23, 25), (501, 1000)])
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert charts.ceiling(value) == pytest.approx(top)


def test_stacked_columns_lie_on_each_other_and_end_at_the_floor() -> None:
    figure = charts.stacked("t", [date(2026, 11, 23), date(2026, 11, 24)], {"Delivered": [3, 0], "Kept": [1, 2]})
    below, above, alone = figure.bars
    assert below.y + below.height == pytest.approx(figure.floor)
    assert above.y + above.height == pytest.approx(below.y)
    assert alone.y + alone.height == pytest.approx(figure.floor)
    assert below.height / above.height == pytest.approx(3, rel=0.01)


def test_a_line_is_torn_where_samples_are_missing() -> None:
    points = [(0.0, 1.0), (10.0, 2.0), (20.0, 2.0), (200.0, 1.0)]
    figure = charts.lines("t", {"mx1": points}, (0, 200))
    assert figure.lines[0].path.count("M") == 2
    assert figure.rows[0].highest == "2"


def test_a_chart_of_nothing_says_so() -> None:
    assert charts.lines("t", {"mx1": [(0, float("nan"))]}, (0, 10)).empty


def _asked(address: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


def test_older_and_newer_walk_the_same_way_back() -> None:
    """Three pages forward and three back visit the same cursors; the search is kept."""
    cursor, trail, way = "", "", []
    for following in ("c1", "c2", "c3"):
        newer, older = paging.links("/quarantine", {"q": "a b"}, cursor, trail, following)
        step = _asked(older)
        assert step["q"] == "a b"
        way.append(cursor)
        cursor, trail = step["cursor"], step["trail"]
    for expected in reversed(way):
        newer, _ = paging.links("/quarantine", {"q": "a b"}, cursor, trail, None)
        step = _asked(newer)
        cursor, trail = step.get("cursor", ""), step.get("trail", "")
        assert cursor == expected
    assert paging.links("/quarantine", {}, "", "", None) == ("", "")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("lines", " a \n\n b\n", ["a", "b"]),
        ("number", "2.5", 2.5),
        ("bool", "", False),
        ("bool", "true", True),
        ("json", '{"a": 1}', {"a": 1}),
        ("text", " x", " x"),
    ],
)
def test_a_control_is_read_as_its_kind(kind: str, text: str, value: Any) -> None:
    assert formdata.to_value(kind, "a.b", text) == value


@pytest.mark.parametrize(("kind", "text"), [("number", "ten"), ("number", ""), ("json", "{")])
def test_text_of_another_kind_names_its_field(kind: str, text: str) -> None:
    with pytest.raises(formdata.FieldError) as error:
        formdata.to_value(kind, "scoring.tag", text)
    assert error.value.path == "scoring.tag"


def test_a_patch_nests_paths_and_nulls_what_is_reset() -> None:
    assert formdata.patch({"content.words": ["a"], "spf.mode": "on"}, ["content.mode"]) == {
        "content": {"words": ["a"], "mode": None},
        "spf": {"mode": "on"},
    }


def test_a_diff_names_items_of_lists_and_values_of_fields() -> None:
    before = {"content": {"words": ["a", "b"], "mode": "off"}}
    after = {"content": {"words": ["b", "c"]}, "spf": {"mode": "on"}}
    assert changes.between(before, after) == [
        changes.Change("content.words", ("a",), ("c",)),
        changes.Change("content.mode", ("off",), ()),
        changes.Change("spf.mode", (), ("on",)),
    ]


def test_the_propagation_line_counts_members_and_names_who_is_awaited() -> None:
    both = spread.spread(1842, [spread.At("mx2", True, 41), spread.At("mx1", True, 12)])
    assert both.complete
    assert both.sentence == "Live on 2 of 2 nodes, revision 1842, 41 ms"
    one = spread.spread(1842, [spread.At("mx1", True, 12), spread.At("mx2", False, age_s=75, revision=1840)])
    assert not one.complete
    assert one.sentence.endswith("; awaiting mx2")
    assert one.nodes[1].text == "awaited at revision 1840, last report 75 s ago"
    assert not spread.spread(1, []).complete


def test_why_is_one_sentence_from_the_best_source() -> None:
    acted = Judgement("content", "message", "on", "refuse", reason="It has a listed word", acted=True)
    assert verdict.sentence("content", "Your list has “x”.") == "Your list has “x”."
    assert verdict.sentence("content", "", [acted]) == "It has a listed word."
    assert verdict.sentence("dnsbl", "") == "Kept for this reason: block list."


def test_the_setting_to_change_is_linked() -> None:
    link = verdict.change("example.test", "score")
    assert link is not None
    assert link.href == "/domains/example.test/settings#g-scoring"
    assert verdict.change("example.test", "no_such_reason") is None


@pytest.mark.parametrize("typed", [{"since": "yesterday"}, {"since": "2026-11-24", "until": "2026-11-01"}])
def test_a_wrong_day_is_explained(typed: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="day"):
        asked.read(typed).span()


def test_the_last_day_counts_whole() -> None:
    since, until = asked.read({"since": "2026-11-24", "until": "2026-11-24"}).span()
    assert (since, until) == (datetime(2026, 11, 24, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC))
    assert asked.read({"q": "\x00a", "nonsense": "x"}).parameters() == {"q": "a"}
