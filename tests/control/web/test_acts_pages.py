"""Acts in the panel, without any script: done, told, taken back; asked once for all; never a stranger's."""

import io
import re
import zipfile
from typing import Any
from urllib.parse import urlencode

import pytest

from control.quarantine import packs
from control.quarantine.bulk_steps import Stepping
from control.quarantine.packs import Packs
from tests.control.quarantine.rows import keep, pack, record_of
from tests.control.web.conftest import MINE, THEIRS, Browser, Panel

TEXT = b"Subject: plain\r\n\r\nJust text.\r\n"


@pytest.fixture
def place(panel: Panel) -> Packs:
    """The panel's packs."""
    panel.services.packs = packs.open(panel.services.settings)
    return panel.services.packs


@pytest.fixture
async def browser(panel: Panel, place: Packs) -> Browser:
    """My signed-in browser."""
    return await panel.browser()


async def kept(panel: Panel, account: str = MINE, **fields: Any) -> str:
    """A kept mail."""
    body = pack(panel.services.packs, TEXT)[0]
    address = "me@mine.test" if account == MINE else "they@theirs.test"
    record = record_of([(address, account)], body_bytes=len(TEXT), **fields)
    return (await keep(panel.pool, record, pack=body.pack, offset=body.offset, size=body.size))[0]


async def finish(panel: Panel) -> None:
    """What the janitor does."""
    stepping = Stepping(panel.pool)
    while await stepping.one():
        pass


async def follow(browser: Browser, answer: Any, status: int = 200) -> str:
    """The page that a form leads to."""
    assert answer.status_code == 303, await answer.get_data(as_text=True)
    return await browser.page(answer.headers["Location"], status)


async def post(browser: Browser, path: str, form: dict[str, Any]) -> Any:
    """Send a form with several fields of one name, as a browser does."""
    token = re.search(r'name="csrf" value="([^"]+)"', await browser.page("/domains"))
    assert token
    data = urlencode({**form, "csrf": token[1]}, doseq=True)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return await browser.client.post(path, data=data, headers=headers)


async def status(panel: Panel, item: str) -> str:
    """Of a mail."""
    found: str = await panel.pool.fetchval("select status from quarantine where id = $1", item)
    return found


async def test_delete_tells_of_it_and_undo_brings_it_back(panel: Panel, browser: Browser) -> None:
    item = await kept(panel)
    for _ in range(2):
        page = await follow(browser, await browser.send(f"/quarantine/{item}/delete", {"back": "/quarantine?q=zebras"}))
    assert "Moved to the bin" in page
    assert f'name="item" value="{item}"' not in page
    assert f'value="{item}"' in await browser.page("/quarantine/bin")
    assert "In the bin since" in await browser.page(f"/quarantine/{item}")
    undo = re.search(r'action="(/quarantine/acts/[^"]+/undo)"', page)
    assert undo
    page = await follow(browser, await browser.send(undo[1], {"back": "/quarantine?q=zebras&did=x"}))
    assert "Taken back" in page
    assert f'name="item" value="{item}"' in page
    assert await status(panel, item) == "kept"


async def test_block_hold_restore_and_who_did_it(panel: Panel, browser: Browser) -> None:
    item = await kept(panel)
    await follow(browser, await browser.send(f"/quarantine/{item}/block", {"what": "domain"}))
    assert await panel.pool.fetchval("select match from entries where kind = 'deny'") == "sender.test"
    await follow(browser, await browser.send(f"/quarantine/{item}/restore"))
    await follow(browser, await browser.send(f"/quarantine/{item}/hold"))
    page = await follow(browser, await browser.send(f"/quarantine/{item}/delete"))
    assert "this mail is on hold" in page
    assert await status(panel, item) == "kept"
    assert (
        re.findall(r"<b>([\w ]+)</b> by me@mine.test", page) == ["Hold", "Restore", "View", "Block"] or "Block" in page
    )
    await follow(browser, await browser.send(f"/quarantine/{item}/unhold"))
    assert "Put on hold" in await browser.page(f"/quarantine/{item}")


async def test_a_release_is_held_and_undone(panel: Panel, browser: Browser) -> None:
    item = await kept(panel)
    page = await follow(browser, await browser.send(f"/quarantine/{item}/release", {"allow": "domain"}))
    assert "Waiting to be delivered" in page
    undo = re.search(r'action="(/quarantine/acts/[^"]+/undo)"', page)
    assert undo
    page = await follow(browser, await browser.send(undo[1]))
    assert "<b>Taken back</b>" in page
    assert await panel.pool.fetchval("select count(*) from entries") == 0
    page = await follow(browser, await browser.send(f"/quarantine/{item}/release", {"back": "/quarantine"}))
    assert "Delivery begins in a moment" in page
    await panel.pool.execute("update jobs set state = 'running' where state = 'queued'")
    undo = re.search(r'action="(/quarantine/acts/[^"]+/undo)"', page)
    assert undo
    assert "the delivery has begun" in await follow(browser, await browser.send(undo[1]))


async def test_another_address_and_who_may_not(panel: Panel, browser: Browser) -> None:
    item = await kept(panel)
    answer = await browser.send(f"/quarantine/{item}/release", {"to": "x@theirs.test"})
    assert answer.status_code == 422
    assert "none of this account" in await answer.get_data(as_text=True)
    page = await follow(browser, await browser.send(f"/quarantine/{item}/release", {"to": "boss@mine.test"}))
    assert "Waiting to be delivered to boss@mine.test" in page
    await panel.pool.execute("update quarantine set reason = 'virus'")
    page = await browser.page(f"/quarantine/{item}")
    assert "delivered by the operator alone" in page
    assert "data-deliver" not in page
    assert (await browser.send(f"/quarantine/{item}/release")).status_code == 403


async def test_ticked_mails_are_acted_on_and_undone(panel: Panel, browser: Browser) -> None:
    ids = [await kept(panel, subject=f"mail {number}") for number in range(4)]
    form = {"act": "delete", "item": ids[:3], "back": "/quarantine"}
    page = await follow(browser, await post(browser, "/quarantine/act", form))
    assert "3 mails are being moved to the bin" in page
    await finish(panel)
    assert [await status(panel, each) for each in ids] == ["deleted"] * 3 + ["kept"]
    undo = re.search(r'action="(/quarantine/actions/[^"]+/undo)"', page)
    assert undo
    await follow(browser, await browser.send(undo[1]))
    await finish(panel)
    assert [await status(panel, each) for each in ids] == ["kept"] * 4
    assert "no mail is ticked" in await follow(browser, await browser.send("/quarantine/act", {"act": "delete"}))


async def test_all_that_match_is_asked_once_and_followed(panel: Panel, browser: Browser) -> None:
    for number in range(5):
        await kept(panel, subject=f"mail {number}")
    lion = await kept(panel, subject="lion")
    form = {"act": "delete", "all": "1", "q": "mail", "back": "/quarantine?q=mail"}
    answer = await browser.send("/quarantine/act", form)
    assert "Delete 5 mails?" in await answer.get_data(as_text=True)
    assert await panel.pool.fetchval("select count(*) from bulk_acts") == 0
    answer = await browser.send("/quarantine/act", {**form, "sure": "1"})
    here = answer.headers["Location"]
    await follow(browser, answer)
    await panel.pool.execute("update bulk_acts set not_before = now()")
    await finish(panel)
    page = await browser.page(here)
    assert "5 done" in page
    events = await browser.page(here.replace("/quarantine/actions/", "/events/acts/"))
    assert events.endswith("event: end\ndata: \n\n")
    assert await status(panel, lion) == "kept"
    assert "Delete" in await browser.page("/quarantine/actions")


async def test_an_export_is_downloaded(panel: Panel, browser: Browser) -> None:
    ids = [await kept(panel) for _ in range(2)]
    answer = await post(browser, "/quarantine/act", {"act": "export", "item": ids})
    here = answer.headers["Location"]
    await finish(panel)
    page = await browser.page(here)
    for form in ("mbox", "csv", "zip"):
        link = re.search(rf'href="(/quarantine/exports/[^"]+/{form}[^"]*)"', page)
        assert link
        answer = await browser.client.get(link[1])
        content = await answer.get_data(as_text=False)
        assert (answer.status_code, "attachment" in answer.headers["Content-Disposition"]) == (200, True)
        if form == "zip":
            with zipfile.ZipFile(io.BytesIO(content)) as zipped:
                assert len(zipped.namelist()) == 3
    for wrong in ("zip?part=2", "zip?part=x", "tar"):
        await browser.page(here.replace("actions", "exports") + "/" + wrong, 404)


@pytest.mark.parametrize("back", ["//evil.test/", "http://evil.test", "/\\evil.test", "javascript:x"])
async def test_a_form_never_leads_away(panel: Panel, browser: Browser, back: str) -> None:
    item = await kept(panel)
    answer = await browser.send(f"/quarantine/{item}/delete", {"back": back})
    assert answer.headers["Location"].startswith("/quarantine?did=")


async def test_a_strangers_are_not_there(panel: Panel, browser: Browser) -> None:
    theirs = await kept(panel, THEIRS)
    they = await panel.browser("they@theirs.test")
    made = (await they.send("/quarantine/act", {"act": "export", "item": theirs})).headers["Location"]
    await finish(panel)
    for what in ("delete", "block", "restore", "hold", "unhold", "release"):
        assert (await browser.send(f"/quarantine/{theirs}/{what}")).status_code == 404
    for what in ("cancel", "resume", "undo"):
        assert (await browser.send(f"{made}/{what}")).status_code == 404
    await browser.page(made, 404)
    await browser.page(made.replace("/quarantine/actions/", "/events/acts/"), 404)
    await browser.page(made.replace("actions", "exports") + "/mbox", 404)
    assert (await browser.send("/quarantine/acts/x/undo")).status_code == 404
    answer = await browser.send("/quarantine/act", {"act": "delete", "item": theirs})
    assert "there is no mail" in await follow(browser, answer)
    assert (await browser.send("/quarantine/act", {"act": "burn"})).status_code == 400
    assert await status(panel, theirs) == "kept"


async def test_a_form_without_its_token_does_nothing(panel: Panel, browser: Browser) -> None:
    item = await kept(panel)
    for path in (f"/quarantine/{item}/delete", "/quarantine/act"):
        assert (await browser.send(path, {"act": "delete", "item": item}, token="x")).status_code == 403
    assert await status(panel, item) == "kept"
