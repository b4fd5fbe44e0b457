"""Sign-in, the guard of forms, security headers, the stranger's page, error pages."""

import re

import pytest

from control.web import signin
from tests.control.web.conftest import PASSWORD, Browser, Panel


@pytest.mark.parametrize(
    "path", ["/", "/quarantine", "/messages", "/domains", "/nodes", "/figures", "/domains/mine.test/settings"]
)
async def test_pages_lead_to_the_sign_in_and_back(panel: Panel, path: str) -> None:
    browser = Browser(panel.app.test_client())
    answer = await browser.client.get(path)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/sign-in")
    form = {"email": "me@mine.test", "password": PASSWORD, "next": path}
    assert (await browser.client.post("/sign-in", form=form)).headers["Location"] == path


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("me@mine.test", "wrong"),
        ("nobody@mine.test", PASSWORD),
        ("", ""),
        ("\x00", "x" * 5000),
        ("me@mine.test", "\ud800"),
    ],
)
async def test_a_wrong_sign_in_says_one_thing_for_all(panel: Panel, email: str, password: str) -> None:
    form = {"email": email, "password": password.encode("utf-8", "surrogatepass").decode("latin-1")}
    answer = await panel.app.test_client().post("/sign-in", form=form)
    assert answer.status_code == 401
    assert signin.WRONG in await answer.get_data(as_text=True)


async def test_guessing_is_throttled_and_told_for_how_long(panel: Panel) -> None:
    client = panel.app.test_client()
    form = {"email": "me@mine.test", "password": "guess"}
    for _ in range(8):
        assert (await client.post("/sign-in", form=form)).status_code == 401
    answer = await client.post("/sign-in", form={**form, "password": PASSWORD})
    assert answer.status_code == 429
    assert "minutes" in await answer.get_data(as_text=True)


@pytest.mark.parametrize(
    ("address", "leads_to"),
    [
        ("/quarantine?q=a", "/quarantine?q=a"),
        ("", "/"),
        ("https://evil.test/", "/"),
        ("//evil.test/", "/"),
        ("/\\evil.test", "/"),
        ("/\n/evil.test", "/"),
        (" //evil.test", "/"),
    ],
)
def test_a_link_to_the_sign_in_never_leads_away(address: str, leads_to: str) -> None:
    assert signin.local(address) == leads_to


async def test_sign_out_ends_the_session(panel: Panel) -> None:
    browser = await panel.browser()
    assert (await browser.send("/sign-out")).status_code == 303
    assert (await browser.client.get("/domains")).status_code == 303
    assert await panel.pool.fetchval("select count(*) from sessions") == 0


FORMS = (
    "/sign-out",
    "/theme",
    "/domains",
    "/domains/mine.test/settings",
    "/domains/mine.test/lists",
    "/domains/mine.test/rollback",
)


@pytest.mark.parametrize("path", FORMS)
async def test_a_form_without_the_session_s_token_is_refused(panel: Panel, path: str) -> None:
    browser = await panel.browser()
    for token in ("", "guessed", "x" * 43):
        assert (await browser.send(path, {"scoring.refuse_at": "1"}, token=token)).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_form_from_another_site_is_refused_whatever_it_carries(panel: Panel, headers: dict[str, str]) -> None:
    browser = await panel.browser()
    found = re.search(r'name="csrf" value="([^"]+)"', await browser.page("/domains"))
    assert found is not None
    answer = await browser.client.post("/theme", form={"csrf": found[1], "theme": "dark"}, headers=headers)
    assert answer.status_code == 403
    anonymous = {"email": "me@mine.test", "password": PASSWORD}
    assert (await panel.app.test_client().post("/sign-in", form=anonymous, headers=headers)).status_code == 403


async def test_the_session_cookie_is_for_us_alone(panel: Panel) -> None:
    form = {"email": "me@mine.test", "password": PASSWORD}
    answer = await panel.app.test_client().post("/sign-in", form=form)
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


@pytest.mark.parametrize("path", ["/sign-in", "/r/abc", "/static/panel.js", "/none"])
async def test_every_answer_is_hardened(panel: Panel, path: str) -> None:
    headers = (await panel.app.test_client().get(path)).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Request-Id"]


async def test_pages_hold_nothing_inline_and_nothing_foreign(panel: Panel) -> None:
    browser = await panel.browser()
    for path in ("/domains", "/domains/mine.test/settings", "/nodes", "/figures", "/r/abc"):
        page = await browser.page(path)
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?! src=\"/static/)|javascript:", page), path
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page), path


async def test_the_stranger_s_page_is_the_same_for_every_reference(panel: Panel) -> None:
    client = panel.app.test_client()
    pages = set()
    for reference in ("01JXXXXXXXXXXXXXXXXXXXXXXX", "0123", "01JXXXXXXXXXXXXXXXXXXXXXXX.0"):
        answer = await client.get(f"/r/{reference}")
        assert answer.status_code == 200
        pages.add((await answer.get_data(as_text=True)).replace(reference, "REFERENCE"))
    assert len(pages) == 1


async def test_the_stranger_s_page_echoes_no_markup(panel: Panel) -> None:
    answer = await panel.app.test_client().get("/r/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    assert "<script>alert" not in await answer.get_data(as_text=True)


async def test_a_missing_page_says_so_with_its_request_id(panel: Panel) -> None:
    answer = await panel.app.test_client().get("/none")
    assert answer.status_code == 404
    assert answer.headers["X-Request-Id"] in await answer.get_data(as_text=True)


async def test_prometheus_away_is_a_state_and_no_error(panel: Panel) -> None:
    browser = await panel.browser()
    assert "Prometheus does not answer" in await browser.page("/figures")
    assert "Prometheus does not answer" in await browser.page("/nodes")


async def test_postgresql_away_is_told_with_503_and_nothing_of_it(panel: Panel) -> None:
    browser = await panel.browser()
    await panel.pool.execute(
        "insert into nodes (name, spool_host, spool_port, smtp_host, smtp_port) values ('mx1', 'h', 1, 'h', 2)"
    )
    assert "never heard" in await browser.page("/nodes")
    await panel.pool.close()
    page = await browser.page("/nodes", 503)
    assert "Mail is not affected" in page
    assert "asyncpg" not in page


async def test_the_theme_is_kept_and_shown_from_the_first_byte(panel: Panel) -> None:
    browser = await panel.browser()
    answer = await browser.send("/theme", {"theme": "dark", "back": "/domains"})
    assert answer.headers["Location"] == "/domains"
    assert 'data-theme="dark"' in await browser.page("/domains")
    await browser.send("/theme", {"theme": '"><b>', "back": "/"})
    assert 'data-theme="dark"' in await browser.page("/domains")
