"""The panel in headless Chromium: change a setting, find the refused mail, read why, release it."""

import re
import shutil
import smtplib
import tempfile
import uuid
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest

from tests.e2e.fleet import Fleet

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WITHIN_MS = 15_000

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(params=[True, False], ids=["with-javascript", "without-javascript"])
def page(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[Any]:
    """A page of a fresh profile that fails the test when it asks anybody but the panel for anything."""
    panel = fleet.demo["panel"]
    foreign: list[str] = []
    complaints: list[str] = []
    with playwright.sync_playwright() as driver, tempfile.TemporaryDirectory(prefix="mxf") as profile:
        context = driver.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            headless=True,
            args=ARGUMENTS,
            base_url=panel,
            java_script_enabled=request.param,
        )
        opened = context.new_page()
        opened.set_default_timeout(WITHIN_MS)
        opened.on("request", lambda asked: asked.url.startswith(panel) or foreign.append(asked.url))
        opened.on("console", lambda line: line.type == "error" and complaints.append(line.text))
        opened.scripted = request.param
        yield opened
        context.close()
    assert foreign == [], "the panel asked a third party"
    assert [line for line in complaints if "Content Security Policy" in line] == []


def _sign_in(page: Any, cluster: dict[str, Any]) -> None:
    page.goto("/")
    page.get_by_label("E-mail").fill(cluster["email"])
    page.get_by_label("Password").fill(cluster["password"])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()


def _wait_for(page: Any, text: "str | re.Pattern[str]") -> None:
    """Until the text is on the page: by itself with scripts, by loading it again without."""
    found = page.get_by_text(text).first
    if page.scripted:
        found.wait_for()
        return
    for _ in range(60):
        if found.is_visible():
            return
        page.wait_for_timeout(250)
        page.reload()
    raise AssertionError(f"{text!r} never came")


def _send(cluster: dict[str, Any], subject: str) -> None:
    """Send one mail that must be refused."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "anna@sender.test", cluster["recipient"], subject
    mail.set_content("The words of a mail that is looked for.\n")
    host, port = cluster["smtp"][0]
    with smtplib.SMTP(host, port, timeout=20) as client, pytest.raises(smtplib.SMTPDataError) as refused:
        client.send_message(mail, "anna@sender.test", [cluster["recipient"]])
    assert refused.value.smtp_code == 550


def test_a_setting_is_changed_and_the_refused_mail_is_found_read_and_released(page: Any, fleet: Fleet) -> None:
    cluster = fleet.demo
    word = "zb" + uuid.uuid4().hex[:12]
    nodes = len(cluster["smtp"])
    _sign_in(page, cluster)

    page.goto(f"/domains/{cluster['domain']}/settings")
    group = page.locator("#g-content")
    group.get_by_role("radio", name="On", exact=True).check()
    words = group.locator("#f-content-words")
    words.fill(f"{words.input_value()}\n{word}")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name=re.compile("Saved as revision")).wait_for()
    assert page.locator("ins", has_text=word).is_visible()
    _wait_for(page, re.compile(rf"live on {nodes} of {nodes} nodes", re.IGNORECASE))

    subject = f"Cheap {word} for you"
    _send(cluster, subject)

    page.goto("/quarantine")
    page.get_by_label("Words").fill(word)
    page.get_by_label("Words").press("Enter")
    _wait_for(page, subject)
    page.get_by_role("link", name=subject).click()
    page.get_by_role("heading", name=subject).wait_for()
    assert word in page.locator(".lead").inner_text()

    page.get_by_role("button", name="Deliver", exact=True).click()
    _wait_for(page, re.compile(r"Delivered.*250", re.IGNORECASE))
