"""The pages about mail, over real rows and packs: found, read, released, and never a stranger's."""

import re
from typing import Any

import pytest
from markupsafe import escape

from control.quarantine import grammar, jobs, packs
from control.quarantine.packs import Packs
from tests.control.quarantine.rows import keep, pack, record_of
from tests.control.web.conftest import MINE, THEIRS, Browser, Panel

HTML = (
    b"Subject: =?utf-8?q?gr=C3=BCn?=\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    b"<p onclick=x()>Hello</p><script>alert(1)</script><img src=http://evil.test/1.gif>\r\n"
)
TEXT = b"Subject: plain\r\n\r\nJust <b>text</b>.\r\n"
HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
def place(panel: Panel) -> Packs:
    """The panel's packs."""
    panel.services.packs = packs.open(panel.services.settings)
    return panel.services.packs


@pytest.fixture
async def browser(panel: Panel, place: Packs) -> Browser:
    """My signed-in browser."""
    return await panel.browser()


async def kept(panel: Panel, raw: bytes = TEXT, **fields: Any) -> tuple[str, str]:
    """A mail of mine and theirs in one transaction; the ids of both items."""
    body = pack(panel.services.packs, raw)[0]
    record = record_of([("me@mine.test", MINE), ("they@theirs.test", THEIRS)], body_bytes=len(raw), **fields)
    mine, theirs = await keep(panel.pool, record, pack=body.pack, offset=body.offset, size=body.size)
    return mine, theirs


async def ended(panel: Panel, state: str, outcome: str) -> str:
    """The queued job, ended as a janitor would once its hold is over."""
    await panel.pool.execute("update jobs set not_before = now()")
    taken = await jobs.take(panel.pool)
    assert taken is not None
    await jobs.end(panel.pool, taken, state, outcome)
    return taken.id


async def test_the_list_shows_mine_with_its_reason(panel: Panel, browser: Browser) -> None:
    mine, theirs = await kept(panel, subject="Cheap zebras")
    page = await browser.page("/quarantine?q=zebras")
    assert f'href="/quarantine/{mine}"' in page
    assert theirs not in page
    assert re.search(r"Content <b>1</b>", page), "the chip of its reason with its count"
    assert f'href="/quarantine/{mine}"' not in await browser.page("/quarantine?q=lions")


async def test_older_and_newer_lead_through_all_of_it(panel: Panel, browser: Browser) -> None:
    for number in range(120):
        await keep(panel.pool, record_of([("me@mine.test", MINE)], subject=f"mail {number}"))
    seen: list[str] = []
    path = "/quarantine"
    while path:
        page = await browser.page(path)
        seen += re.findall(r"mail \d+", page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        path = older[1].replace("&amp;", "&") if older else ""
    assert len(set(seen)) == 120
    newer = re.search(r'rel="prev" href="([^"]+)"', page)
    assert newer
    assert "mail 60" in await browser.page(newer[1].replace("&amp;", "&"))


@pytest.mark.parametrize(
    "query", ["cursor=x", "since=yesterday", "since=2026-02-01&until=2026-01-01", "q=" + "w+" * 99]
)
async def test_a_search_that_cannot_be_read_is_explained(browser: Browser, query: str) -> None:
    for path in ("/quarantine", "/messages"):
        page = await browser.page(f"{path}?{query}", 400)
        assert 'role="alert"' in page


async def test_what_cannot_be_read_is_underlined_and_the_search_stays(browser: Browser) -> None:
    page = await browser.page("/quarantine?q=zebras%20size:%3Cb%3Ebig", 400)
    assert "zebras <mark>size:&lt;b&gt;big</mark>" in page
    assert "like size:&gt;1M" in page
    assert 'aria-invalid="true"' in page


async def test_fields_are_offered_while_typing_and_explained(browser: Browser) -> None:
    page = await browser.page("/quarantine")
    for field in grammar.FIELDS:
        assert f'<option value="{field.name}:">' in page
        assert str(escape(field.example)) in page
    assert '<option value="is:released">' in page


async def test_an_item_says_why_and_shows_the_mail_safely(panel: Panel, browser: Browser) -> None:
    mine, _ = await kept(panel, HTML)
    page = await browser.page(f"/quarantine/{mine}")
    assert "The subject holds a listed word." in page
    assert "1 remote image blocked" in page
    answer = await browser.client.get(f"/quarantine/{mine}/view")
    shown = await answer.get_data(as_text=True)
    assert "<p>Hello</p>" in shown
    assert "script" not in shown
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    for view, text in {"text": "Hello", "headers": "grün", "raw": "&lt;script&gt;", "attachments": "no attach"}.items():
        assert text in await browser.page(f"/quarantine/{mine}?view={view}")
    answer = await browser.client.get(f"/quarantine/{mine}/raw")
    assert await answer.get_data(as_text=False) == HTML
    assert "attachment" in answer.headers["Content-Disposition"]


async def test_text_mail_is_shown_as_text(panel: Panel, browser: Browser) -> None:
    mine, _ = await kept(panel)
    page = await browser.page(f"/quarantine/{mine}")
    assert "Just &lt;b&gt;text&lt;/b&gt;." in page
    assert "<iframe" not in page


async def test_two_clicks_are_one_job_and_again_names_it(panel: Panel, browser: Browser) -> None:
    mine, _ = await kept(panel)
    for _ in range(2):
        assert (await browser.send(f"/quarantine/{mine}/release")).status_code == 303
    page = await browser.page(f"/quarantine/{mine}")
    assert "Waiting to be delivered" in page
    job = await ended(panel, "done", "delivered: 250 2.0.0 ok from mail.mine.test:25")
    await browser.send(f"/quarantine/{mine}/release")
    page = await browser.page(f"/quarantine/{mine}")
    assert "<b>Delivered</b>" in page
    assert "250 2.0.0 ok from mail.mine.test:25" in page
    assert f'name="again" value="{job}"' in page
    for _ in range(2):
        await browser.send(f"/quarantine/{mine}/release", {"again": job})
    assert await panel.pool.fetchval("select count(*) from jobs") == 2


async def test_a_release_and_its_allow_entry(panel: Panel, browser: Browser) -> None:
    mine, _ = await kept(panel)
    await browser.send(f"/quarantine/{mine}/release", {"allow_sender": "1"})
    assert await panel.pool.fetchval("select match from entries") == "ann@sender.test"
    bounce, _ = await kept(panel, sender="x" * 99 + "@sender.test")
    answer = await browser.send(f"/quarantine/{bounce}/release", {"allow_sender": "1"})
    assert answer.status_code == 422
    assert "Nothing was done: this sender cannot be on a list" in await answer.get_data(as_text=True)


async def test_a_job_is_followed_live_by_its_owner_alone(panel: Panel, browser: Browser) -> None:
    mine, _ = await kept(panel)
    await browser.send(f"/quarantine/{mine}/release")
    job = await ended(panel, "failed", "mail.mine.test:25 said: 450 4.2.0 busy")
    events = await browser.page(f"/events/jobs/{job}")
    assert "mail.mine.test:25 said: 450 4.2.0 busy" in events
    assert events.endswith("event: end\ndata: \n\n")
    they = await panel.browser("they@theirs.test")
    await they.page(f"/events/jobs/{job}", 404)


async def test_a_lost_body_is_said_to_be_lost(panel: Panel, browser: Browser) -> None:
    mine, _ = await kept(panel)
    await panel.pool.execute("update quarantine set pack = ''")
    page = await browser.page(f"/quarantine/{mine}")
    assert "The body of this mail is lost" in page
    assert "data-deliver" not in page
    for part in ("view", "raw"):
        await browser.page(f"/quarantine/{mine}/{part}", 404)


async def test_a_strangers_pages_are_not_there(panel: Panel, browser: Browser) -> None:
    _, theirs = await kept(panel)
    await keep(panel.pool, other := record_of([("they@theirs.test", THEIRS)]))
    for path in (f"/quarantine/{theirs}", f"/quarantine/{theirs}/view", f"/quarantine/{theirs}/raw"):
        await browser.page(path, 404)
    assert (await browser.send(f"/quarantine/{theirs}/release")).status_code == 404
    assert (await browser.send(f"/messages/{other.id}/retry")).status_code == 404
    for path in (f"/messages/{other.id}", "/quarantine/x", "/messages/x", "/events/jobs/x"):
        await browser.page(path, 404)


async def test_a_message_shows_my_recipients_alone(panel: Panel, browser: Browser) -> None:
    mine, _ = await kept(panel, subject="Cheap zebras")
    assert f'href="/messages/{mine[:26]}"' in await browser.page("/messages?q=zebras&outcome=kept")
    page = await browser.page(f"/messages/{mine[:26]}")
    assert "me@mine.test" in page
    assert "theirs" not in page
    assert f'href="/quarantine/{mine}"' in page


async def test_the_overview_shows_what_was_kept_lately(panel: Panel, browser: Browser) -> None:
    mine, theirs = await kept(panel)
    page = await browser.page("/")
    assert f'href="/quarantine/{mine}"' in page
    assert theirs not in page


async def test_nothing_in_a_mail_is_markup_of_ours(panel: Panel, browser: Browser) -> None:
    mine, _ = await kept(
        panel,
        b"Subject: " + HOSTILE.encode() + b"\r\n\r\n" + HOSTILE.encode(),
        subject=HOSTILE,
        sender=f"{HOSTILE}@sender.test",
        header_from=HOSTILE,
        helo=HOSTILE,
        dialogue=((0.0, "C", HOSTILE),),
    )
    views = [f"/quarantine/{mine}?view={view}" for view in ("message", "text", "headers", "raw", "attachments")]
    for path in ("/", "/quarantine", "/messages", f"/messages/{mine[:26]}", *views):
        assert "<script>alert" not in await browser.page(path)
