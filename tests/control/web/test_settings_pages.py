"""Domains, settings, lists and history in the panel, over a real PostgreSQL."""

import html
import re
from typing import Any

import pytest

from control.store import lists, settings
from tests.control.web.conftest import Panel

SETTINGS = "/domains/mine.test/settings"


def _base(page: str) -> str:
    found = re.search(r'name="base" value="(\d+)"', page)
    assert found is not None
    return found[1]


async def _document(panel: Panel) -> dict[str, Any]:
    return (await settings.read(panel.pool, panel.viewer, "domain", "mine.test")).document


async def test_the_form_shows_every_declared_field_with_its_value_and_origin(panel: Panel) -> None:
    page = await (await panel.browser()).page(SETTINGS)
    for text in ('name="scoring.refuse_at"', 'value="10"', 'name="delivery.keep_when_down"', "0 to 1000."):
        assert text in page


async def test_only_what_was_changed_is_saved_and_the_page_shows_the_diff(panel: Panel) -> None:
    browser = await panel.browser()
    form = {"base": _base(await browser.page(SETTINGS)), "scoring.refuse_at": "12", "scoring.doubt_at": "5"}
    answer = await browser.send(SETTINGS, {**form, "scoring.tag": "[SPAM?]", "retention.days": "31"})
    assert answer.status_code == 303
    assert await _document(panel) == {"scoring": {"refuse_at": 12.0}}
    page = await browser.page(answer.headers["Location"])
    assert "Saved as revision" in page
    assert "<ins>" in page
    assert "0 of 0 nodes" in page


async def test_a_reset_removes_what_was_set_here(panel: Panel) -> None:
    await settings.patch(panel.pool, panel.viewer, "domain", "mine.test", {"scoring": {"refuse_at": 12}})
    browser = await panel.browser()
    form = {"base": _base(await browser.page(SETTINGS)), "scoring.refuse_at": "12", "reset": "scoring.refuse_at"}
    assert (await browser.send(SETTINGS, form)).status_code == 303
    assert await _document(panel) == {}


async def test_nothing_changed_makes_no_revision(panel: Panel) -> None:
    browser = await panel.browser()
    before = await panel.pool.fetchval("select revision from revision_counter")
    answer = await browser.send(SETTINGS, {"base": _base(await browser.page(SETTINGS)), "scoring.refuse_at": "10"})
    assert "Nothing was different" in await browser.page(answer.headers["Location"])
    assert await panel.pool.fetchval("select revision from revision_counter") == before


@pytest.mark.parametrize(
    ("typed", "shown"), [("2000", "&lt;= 1000"), ("ten", "must be a number"), ("-1", "&gt;= 0")], ids=str
)
async def test_a_wrong_value_is_explained_at_its_field_and_kept(panel: Panel, typed: str, shown: str) -> None:
    browser = await panel.browser()
    answer = await browser.send(SETTINGS, {"base": _base(await browser.page(SETTINGS)), "scoring.refuse_at": typed})
    page = await answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert shown in page
    assert f'value="{typed}"' in page
    assert 'id="f-scoring-refuse_at-error"' in page
    assert await _document(panel) == {}


async def test_a_change_on_top_of_another_is_shown_and_not_stored(panel: Panel) -> None:
    browser = await panel.browser()
    base = _base(await browser.page(SETTINGS))
    await settings.patch(panel.pool, panel.viewer, "domain", "mine.test", {"retention": {"days": 7}})
    answer = await browser.send(SETTINGS, {"base": base, "scoring.refuse_at": "12"})
    page = await answer.get_data(as_text=True)
    assert answer.status_code == 409
    assert "Somebody else saved meanwhile" in page
    assert "retention.days" in page
    assert 'value="12"' in page
    assert await _document(panel) == {"retention": {"days": 7}}
    again = await browser.send(SETTINGS, {"base": _base(page), "scoring.refuse_at": "12", "retention.days": "7"})
    assert again.status_code == 303
    assert await _document(panel) == {"retention": {"days": 7}, "scoring": {"refuse_at": 12.0}}


async def test_a_locked_field_is_shown_as_such_and_cannot_be_saved(panel: Panel) -> None:
    operator = panel.viewer.__class__("op", None, "operator", "panel")
    await settings.patch(panel.pool, operator, "system", "", {"locks": ["retention"]})
    browser = await panel.browser()
    page = await browser.page(SETTINGS)
    assert "locked by system" in page
    answer = await browser.send(SETTINGS, {"base": _base(page), "retention.days": "7"})
    assert answer.headers["Location"].endswith("saved=nothing")


async def test_history_shows_each_change_and_rolls_back_as_a_new_revision(panel: Panel) -> None:
    first = await settings.patch(panel.pool, panel.viewer, "domain", "mine.test", {"retention": {"days": 7}})
    await settings.patch(panel.pool, panel.viewer, "domain", "mine.test", {"retention": {"days": 9}})
    browser = await panel.browser()
    page = await browser.page("/domains/mine.test/history")
    assert "me@mine.test" in page
    assert re.search(r"<del>.*7.*</del>", page)
    answer = await browser.send("/domains/mine.test/rollback", {"revision": str(first.revision)})
    assert answer.status_code == 303
    assert await _document(panel) == {"retention": {"days": 7}}


@pytest.mark.parametrize("revision", ["", "-1", "99999999", "x", "9" * 30])
async def test_a_rollback_to_no_revision_is_explained(panel: Panel, revision: str) -> None:
    browser = await panel.browser()
    assert (await browser.send("/domains/mine.test/rollback", {"revision": revision})).status_code == 422


async def test_an_entry_is_added_shown_and_removed(panel: Panel) -> None:
    browser = await panel.browser()
    path = "/domains/mine.test/lists"
    form = {"kind": "deny", "match": "Bad@Example.org", "expires": "2030-01-31", "note": "<b>spam</b>"}
    answer = await browser.send(path, form)
    assert answer.status_code == 303
    page = await browser.page(answer.headers["Location"])
    assert "&lt;b&gt;spam" in page
    assert "<b>spam</b>" not in page
    (entry,) = await lists.listing(panel.pool, panel.viewer, "domain", "mine.test")
    assert (entry.kind, str(entry.expires)) == ("deny", "2030-02-01 00:00:00+00:00")
    assert (await browser.send(f"{path}/{entry.id}/remove")).status_code == 303
    assert (await browser.send(f"{path}/{entry.id}/remove")).status_code == 404


@pytest.mark.parametrize("form", [{"match": ""}, {"match": "no host"}, {"match": "a.test", "expires": "soon"}])
async def test_an_entry_that_cannot_be_is_explained_and_kept_in_the_form(panel: Panel, form: dict[str, str]) -> None:
    browser = await panel.browser()
    answer = await browser.send("/domains/mine.test/lists", {"kind": "allow", **form})
    assert answer.status_code == 422
    assert html.escape(form["match"]) in await answer.get_data(as_text=True)


async def test_a_domain_is_added_only_with_proof(panel: Panel) -> None:
    browser = await panel.browser()
    answer = await browser.send("/domains", {"name": "new.test", "host": "mail.new.test", "port": "25"})
    assert answer.status_code == 422
    assert "_mxfleet.new.test" in await answer.get_data(as_text=True)


STRANGERS = (
    ("GET", "/domains/theirs.test/settings"),
    ("GET", "/domains/theirs.test/history"),
    ("GET", "/domains/theirs.test/lists"),
    ("GET", "/events/domains/theirs.test/1"),
    ("POST", "/domains/theirs.test/settings"),
    ("POST", "/domains/theirs.test/rollback"),
    ("POST", "/domains/theirs.test/lists"),
    ("POST", "/domains/theirs.test/lists/x/remove"),
)


@pytest.mark.parametrize(("method", "path"), STRANGERS)
async def test_a_stranger_s_domain_is_as_missing_as_none(panel: Panel, method: str, path: str) -> None:
    browser = await panel.browser()
    form = {"scoring.refuse_at": "1", "match": "a.test", "kind": "deny", "revision": "1"}
    for each in (path, path.replace("theirs.test", "none.test")):
        answer = await (browser.client.get(each) if method == "GET" else browser.send(each, form))
        assert answer.status_code == 404, each
        assert "theirs.test" not in await answer.get_data(as_text=True)
