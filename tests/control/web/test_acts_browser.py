"""The list in Chromium: rows ticked by key and by Shift, deleted, taken back; live progress; nothing breaks the CSP."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control.quarantine import packs
from control.quarantine.bulk_steps import Stepping
from control.serving import serve
from tests.control.quarantine.rows import keep, pack, record_of
from tests.control.web.conftest import MINE, PASSWORD, Panel
from tests.servers import free_port

playwright = pytest.importorskip("playwright.async_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
MAILS = 12


@pytest.fixture
async def address(panel: Panel, tmp_path: Path) -> AsyncIterator[str]:
    """The panel on a port, with mail in it, and what the janitor does with acts on many."""
    panel.services.packs = packs.open(panel.services.settings)
    body = pack(panel.services.packs, b"Subject: plain\r\n\r\nJust text.\r\n")[0]
    for number in range(MAILS):
        record = record_of([("me@mine.test", MINE)], body_bytes=30, subject=f"mail {number}")
        await keep(panel.pool, record, pack=body.pack, offset=body.offset, size=body.size)
    port = free_port()
    async with asyncio.TaskGroup() as tasks:
        beside = [tasks.create_task(_step(panel)), tasks.create_task(_serve(panel, port))]
        yield f"http://127.0.0.1:{port}"
        panel.services.stopping.set()
        beside[0].cancel()


async def _serve(panel: Panel, port: int) -> None:
    await serve(panel.app, "127.0.0.1", port, panel.services.stopping)


async def _step(panel: Panel) -> None:
    stepping = Stepping(panel.pool)
    while True:
        await stepping.one()
        await asyncio.sleep(0.05)  # as the janitor looks for work


@pytest.fixture
async def page(address: str) -> AsyncIterator[Any]:
    """A signed-in page that fails the test when the console complains."""
    complaints: list[str] = []
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        opened = await browser.new_page(base_url=address)
        opened.set_default_timeout(30_000)
        opened.on("console", lambda line: line.type == "error" and complaints.append(line.text))
        await _until_up(opened)
        await opened.get_by_label("E-mail").fill("me@mine.test")
        await opened.get_by_label("Password").fill(PASSWORD)
        await opened.get_by_role("button", name="Sign in").click()
        await opened.get_by_role("heading", name="Overview").wait_for()
        yield opened
        await browser.close()
    assert [line for line in complaints if "Content Security Policy" in line] == []


async def _until_up(page: Any) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await page.goto("/")
            except playwright.Error:
                await asyncio.sleep(0.1)
            else:
                return


async def _shot(page: Any, name: str) -> None:
    """Pictures for whoever looks at them: in the directory SHOTS, in both themes and on a phone."""
    if not (directory := os.environ.get("SHOTS")):
        return
    for theme, width in (("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)):
        await page.emulate_media(color_scheme=theme)
        await page.set_viewport_size({"width": width, "height": 900})
        await page.screenshot(path=f"{directory}/{name}-{theme}-{width}.png")
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size({"width": 1280, "height": 900})


async def _status(panel: Panel, wanted: dict[str, int]) -> None:
    async with asyncio.timeout(20):
        while True:
            rows = await panel.pool.fetch("select status, count(*) as mails from quarantine group by 1")
            if {row["status"]: row["mails"] for row in rows} == wanted:
                return
            await asyncio.sleep(0.05)


async def test_ticked_by_key_and_by_shift_deleted_and_taken_back(panel: Panel, page: Any) -> None:
    await page.goto("/quarantine")
    boxes = page.locator("[data-tick]")
    for key in ("j", "x"):
        await page.keyboard.press(key)
    await boxes.nth(4).click(modifiers=["Shift"])
    await page.get_by_text("5 selected").wait_for()
    await _shot(page, "list")
    await page.keyboard.press("Delete")
    await page.locator("[data-toast]").wait_for()
    await _status(panel, {"deleted": 5, "kept": MAILS - 5})
    await _shot(page, "toast")
    await page.keyboard.press("u")
    await _status(panel, {"kept": MAILS})


async def test_one_mail_is_deleted_blocked_and_released_by_keys(panel: Panel, page: Any) -> None:
    await page.goto("/quarantine")
    await page.keyboard.press("j")
    await page.keyboard.press("b")
    await page.get_by_text("Sender blocked, mail moved to the bin").wait_for()
    await page.keyboard.press("u")
    await page.get_by_text("Taken back").wait_for()
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Block sender and delete").wait_for()
    await _shot(page, "item")
    await page.keyboard.press("d")
    await page.get_by_text("Waiting to be delivered").wait_for()
    await page.keyboard.press("u")
    await page.get_by_text("Taken back", exact=True).wait_for()
    assert await panel.pool.fetchval("select count(*) from jobs where state = 'cancelled'") == 1


async def test_all_that_match_with_progress_to_its_end(panel: Panel, page: Any) -> None:
    await page.goto("/quarantine?q=mail")
    await page.get_by_label("All that match").check()
    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("heading", name=f"Delete {MAILS} mails?").wait_for()
    await _shot(page, "sure")
    await page.get_by_role("button", name=f"Delete {MAILS}").click()
    await page.get_by_text(f"{MAILS} done").wait_for()
    await _shot(page, "bulk")
    await _status(panel, {"deleted": MAILS})
    await page.goto("/quarantine/bin")
    await _shot(page, "bin")
