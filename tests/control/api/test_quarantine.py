"""The API's quarantine, jobs and tracking over real rows and packs."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.quarantine import grammar, jobs, packs
from tests.control.api.conftest import Door
from tests.control.quarantine.rows import keep, pack, record_of

RAW = b"Subject: x\r\nContent-Type: text/html\r\n\r\n<b onclick=x()>bold</b><script>x()</script>\r\n"


@pytest.fixture
async def item(app: Any, pool: Any, domain: str, seeds: dict[str, str]) -> str:
    """A kept mail of the demo account."""
    services = app.extensions["mxfleet"]
    services.packs = packs.open(services.settings)
    body = pack(services.packs, RAW)[0]
    record = record_of([(f"you@{domain}", seeds["account"])], body_bytes=len(RAW))
    return (await keep(pool, record, pack=body.pack, offset=body.offset, size=body.size))[0]


async def test_it_is_found_with_what_the_contract_names(owner: Door, item: str) -> None:
    reply = await owner.call("GET", "/quarantine?q=zebras&domain=example.test&limit=1")
    found = reply.json["items"][0]
    assert (found["id"], found["sender"], found["reason"], found["size"]) == (
        item,
        "ann@sender.test",
        "content",
        len(RAW),
    )
    assert set(found) >= {"received_at", "recipient", "subject", "filter", "score", "node", "status"}
    assert reply.json["next"] is None


async def test_an_item_names_every_verdict(owner: Door, item: str) -> None:
    found = (await owner.call("GET", f"/quarantine/{item}")).json
    assert (found["reason_text"], found["domain"]) == ("The subject holds a listed word.", "example.test")
    assert [(each["filter"], each["acted"]) for each in found["verdicts"]] == [("content", True)]


async def test_its_bytes_and_its_safe_view(owner: Door, item: str) -> None:
    raw = await owner.call("GET", f"/quarantine/{item}/raw")
    assert (raw.content, raw.headers["Content-Type"]) == (RAW, "message/rfc822")
    view = await owner.call("GET", f"/quarantine/{item}/html")
    assert b"<b>bold</b>" in view.content
    assert b"script" not in view.content
    assert "sandbox" in view.headers["Content-Security-Policy"]


async def test_a_release_is_one_job(owner: Door, pool: Any, item: str) -> None:
    made = {(await owner.call("POST", f"/quarantine/{item}/release", {})).json["job"] for _ in range(3)}
    assert len(made) == 1
    job = made.pop()
    assert (await owner.call("GET", f"/jobs/{job}")).json == {"state": "queued", "outcome": ""}
    taken = await jobs.take(pool)
    assert taken
    await jobs.end(pool, taken, "unknown", "cut")
    again = (await owner.call("POST", f"/quarantine/{item}/release", {"again": job})).json["job"]
    assert again != job


async def test_a_lost_body_is_gone_and_the_rest_is_there(owner: Door, pool: Any, item: str) -> None:
    await pool.execute("update quarantine set pack = ''")
    for part in ("raw", "html"):
        reply = await owner.call("GET", f"/quarantine/{item}/{part}")
        assert (reply.status, reply.headers["Content-Type"]) == (410, "application/problem+json")
    assert (await owner.call("GET", f"/quarantine/{item}")).status == 200


async def test_tracking_has_it_and_nothing_waits(owner: Door, item: str) -> None:
    found = (await owner.call("GET", f"/messages/{item[:26]}")).json
    assert [each["outcome"] for each in found["recipients"]] == ["kept"]
    assert found["recipients"][0]["verdicts"][0]["filter"] == "content"
    assert (await owner.call("GET", "/messages?outcome=kept")).json["items"][0]["id"] == item[:26]
    assert (await owner.call("POST", f"/messages/{item[:26]}/retry")).json == {"pushed": 0}


async def test_a_strangers_is_as_if_it_were_not(stranger: Door, owner: Door, item: str) -> None:
    job = (await owner.call("POST", f"/quarantine/{item}/release", {})).json["job"]
    assert (await stranger.call("GET", "/quarantine")).json["items"] == []
    calls = [("GET", f"/quarantine/{item}{part}") for part in ("", "/raw", "/html")]
    calls += [("POST", f"/quarantine/{item}/release"), ("GET", f"/jobs/{job}")]
    calls += [("GET", f"/messages/{item[:26]}"), ("POST", f"/messages/{item[:26]}/retry")]
    for method, path in calls:
        theirs = await stranger.call(method, path, {} if method == "POST" else None)
        none = await stranger.call(
            method, path.replace(item[:26], "0" * 26).replace(job, "0" * 26), {} if method == "POST" else None
        )
        assert (theirs.status, theirs.content.replace(b"x", b"")[:60]) == (404, none.content.replace(b"x", b"")[:60])


async def test_what_cannot_be_read_is_marked(owner: Door, item: str) -> None:
    reply = await owner.call("GET", "/quarantine?q=zebras%20size:big")
    assert (reply.status, reply.json["field"]) == (422, "q")
    assert "zebras size:big"[reply.json["start"] : reply.json["end"]] == "size:big"
    assert "size:>1M" in reply.json["reason"]
    assert (await owner.call("GET", "/quarantine/counts?q=frm:ann")).json["end"] == 4


async def test_counts_of_a_search_and_its_fields(owner: Door, stranger: Door, item: str) -> None:
    counted = (await owner.call("GET", "/quarantine/counts?q=from:ann&reason=dnsbl")).json
    assert counted == {"reasons": {"content": 1}, "kind": "exact"}
    assert (await stranger.call("GET", "/quarantine/counts?domain=example.test")).json["reasons"] == {}
    fields = (await owner.call("GET", "/quarantine/fields")).json["items"]
    for field in fields:
        assert (await owner.call("GET", f"/quarantine?q={quote(field['example'])}")).status == 200


async def test_a_word_says_how_far_the_index_of_bodies_is(owner: Door, item: str) -> None:
    assert (await owner.call("GET", "/quarantine?q=bold")).json["lag"]["mails"] == 1
    assert (await owner.call("GET", "/quarantine?sender=ann")).json["lag"] is None


QUERIES = st.lists(
    st.one_of(
        st.sampled_from([*(f"{field.name}:" for field in grammar.FIELDS), "-", '"', " ", "*", ">", "1M", "2026-11-24"]),
        st.text(max_size=6),
    ),
    max_size=10,
).map("".join)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(typed=QUERIES)
async def test_any_search_has_results_or_a_marked_error(owner: Door, item: str, typed: str) -> None:
    reply = await owner.call("GET", f"/quarantine?q={quote(typed, errors='replace')}")
    assert reply.status in (200, 422), reply.content
    if reply.status == 422 and reply.json.get("end"):
        assert 0 <= reply.json.get("start", 0) < reply.json["end"] <= len(typed)


@pytest.mark.parametrize(
    "query", ["cursor=x", "limit=0", "limit=501", "since=yesterday", "q=" + "w+" * 99, "domain=%00", "limit=x"]
)
async def test_a_search_that_cannot_be_read_is_refused_in_words(owner: Door, query: str) -> None:
    for path in ("/quarantine", "/messages"):
        reply = await owner.call("GET", f"{path}?{query}")
        assert reply.status == 422, reply.content
        assert reply.json["detail"]
