"""The API's acts on kept mail: deleted, blocked, undone, in bulk, exported, held, purged; never a stranger's."""

import csv
import io
import mailbox
import zipfile
from pathlib import Path
from typing import Any

import pytest

from control.auth import Viewer
from control.quarantine import bulk, export, leaving, packs
from control.quarantine.bulk_steps import Stepping
from tests.control.api.conftest import Door
from tests.control.quarantine.rows import keep, pack, record_of

MAILS = 7


def raw(number: int) -> bytes:
    """A mail that an mbox has to guard."""
    return b"Subject: n%d\r\n\r\nFrom here\r\n>From there\r\nbody %d \xe4\r\n" % (number, number)


@pytest.fixture
async def items(app: Any, pool: Any, domain: str, seeds: dict[str, str]) -> list[str]:
    """Kept mails of the demo account."""
    services = app.extensions["mxfleet"]
    services.packs = packs.open(services.settings)
    found = []
    for number in range(MAILS):
        body = pack(services.packs, raw(number))[0]
        record = record_of([(f"you@{domain}", seeds["account"])], body_bytes=body.size, subject=f"=n{number}")
        found += await keep(pool, record, pack=body.pack, offset=body.offset, size=body.size)
    return found


async def finish(pool: Any) -> None:
    """What the janitor does."""
    stepping = Stepping(pool)
    while await stepping.one() or await leaving.step(pool):
        pass


async def test_delete_bin_undo_restore_and_history(owner: Door, items: list[str]) -> None:
    item = items[0]
    await owner.call("GET", f"/quarantine/{item}")
    acts = {(await owner.call("POST", f"/quarantine/{item}/delete")).json["act"] for _ in range(3)}
    assert len(acts) == 1
    assert (await owner.call("GET", f"/quarantine/{item}")).status == 404
    assert [each["id"] for each in (await owner.call("GET", "/quarantine/bin")).json["items"]] == [item]
    assert (await owner.call("POST", f"/quarantine/acts/{acts.pop()}/undo")).status == 204
    assert (await owner.call("GET", f"/quarantine/{item}")).json["status"] == "kept"
    await owner.call("POST", f"/quarantine/{item}/block", {"what": "domain"})
    assert (await owner.call("GET", "/domains/example.test/lists")).json["items"][0]["match"] == "sender.test"
    assert (await owner.call("POST", f"/quarantine/{item}/restore")).status == 204
    events = (await owner.call("GET", f"/quarantine/{item}/history")).json["events"]
    assert [each["act"] for each in events] == ["restore", "block", "undo delete", "delete", "view"]


async def test_a_held_release_is_undone_and_a_begun_one_is_a_conflict(owner: Door, pool: Any, items: list[str]) -> None:
    made = (await owner.call("POST", f"/quarantine/{items[0]}/release", {"hold_s": 5})).json
    assert (await owner.call("POST", f"/quarantine/acts/{made['act']}/undo")).status == 204
    assert (await owner.call("GET", f"/jobs/{made['job']}")).json["state"] == "cancelled"
    made = (await owner.call("POST", f"/quarantine/{items[0]}/release", {})).json
    await pool.execute("update jobs set state = 'running' where id = $1", made["job"])
    reply = await owner.call("POST", f"/quarantine/acts/{made['act']}/undo")
    assert (reply.status, reply.json["detail"]) == (409, "the delivery has begun and cannot be taken back")


async def test_who_may_not_release_is_told_who_may(owner: Door, operator: Door, pool: Any, items: list[str]) -> None:
    await pool.execute("update quarantine set reason = 'virus'")
    reply = await owner.call("POST", f"/quarantine/{items[0]}/release", {})
    assert (reply.status, "operator alone" in reply.json["detail"]) == (403, True)
    assert (await operator.call("POST", f"/quarantine/{items[0]}/release", {})).status == 202


async def test_a_search_is_counted_deleted_followed_and_undone(owner: Door, pool: Any, items: list[str]) -> None:
    wanted = {"act": "delete", "query": {"q": "sender.test", "domain": "example.test"}}
    reply = await owner.call("POST", "/quarantine/actions", {**wanted, "dry_run": True})
    assert (reply.status, reply.json) == (200, {"count": MAILS, "exact": True})
    made = (await owner.call("POST", "/quarantine/actions", wanted)).json
    assert made["state"] == "listing"
    path = f"/quarantine/actions/{made['id']}"
    await finish(pool)
    found = (await owner.call("GET", path)).json
    assert (found["state"], found["done"], found["total"]) == ("done", MAILS, MAILS)
    assert (await owner.call("POST", f"{path}/resume")).status == 409
    assert (await owner.call("POST", f"{path}/undo")).json["state"] == "undoing"
    await finish(pool)
    assert (await owner.call("GET", path)).json["undone"] == MAILS
    assert len((await owner.call("GET", "/quarantine")).json["items"]) == MAILS
    assert [each["id"] for each in (await owner.call("GET", "/quarantine/actions")).json["items"]] == [made["id"]]


@pytest.mark.parametrize(
    "body",
    [
        {"act": "delete"},
        {"act": "burn", "query": {}},
        {"act": "delete", "query": {}, "items": ["x"]},
        {"act": "delete", "query": {"q": "score:>banana"}},
        {"act": "delete", "query": {"q": "score:>banana"}, "dry_run": True},
        {"act": "delete", "query": {"since": "yesterday"}},
        {"act": "delete", "query": {"limit": 3}},
        {"act": "release", "query": {}, "hold_s": 61},
    ],
    ids=str,
)
async def test_what_cannot_be_meant_is_refused_in_words(owner: Door, items: list[str], body: dict[str, Any]) -> None:
    reply = await owner.call("POST", "/quarantine/actions", body)
    assert (reply.status, bool(reply.json["detail"])) == (422, True), reply.content


async def exported(owner: Door, pool: Any) -> str:
    """An export of everything, listed."""
    made = (await owner.call("POST", "/quarantine/exports", {"query": {}})).json
    early = await owner.call("GET", f"/quarantine/exports/{made['id']}/mbox")
    assert (early.status, "listing" in early.json["detail"]) == (409, True)
    await finish(pool)
    return str(made["id"])


async def test_an_mbox_that_was_cut_goes_on_and_is_read_back(
    owner: Door, pool: Any, items: list[str], tmp_path: Path
) -> None:
    export_id = await exported(owner, pool)
    path = f"/quarantine/exports/{export_id}/mbox"
    whole = (await owner.call("GET", path)).content
    rest = (await owner.call("GET", f"{path}?after=3")).content
    assert whole.endswith(rest)
    assert whole.count(b"\nX-Mxfleet-Export: " + export_id.encode()) == MAILS
    (tmp_path / "mbox").write_bytes(whole)
    read = mailbox.mbox(tmp_path / "mbox")
    assert [each["Subject"] for each in read] == [f"n{number}" for number in reversed(range(MAILS))]
    assert b">From here\n>>From there\nbody 6 \xe4" in whole
    assert await pool.fetchval("select count(*) from audit where act = 'export'") == 2


async def test_zips_hold_the_exact_bytes_and_a_table(
    owner: Door, pool: Any, items: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PART", 3)
    await pool.execute("update quarantine set pack = '' where id = $1", items[1])
    export_id = await exported(owner, pool)
    found: dict[str, bytes] = {}
    rows: list[dict[str, str]] = []
    for part in (1, 2, 3):
        reply = await owner.call("GET", f"/quarantine/exports/{export_id}/zip?part={part}")
        assert reply.headers["X-Parts"] == "3"
        with zipfile.ZipFile(io.BytesIO(reply.content)) as zipped:
            assert zipped.testzip() is None
            found |= {name: zipped.read(name) for name in zipped.namelist() if name.endswith(".eml")}
            rows += csv.DictReader(io.StringIO(zipped.read("mails.csv").decode()))
    assert (await owner.call("GET", f"/quarantine/exports/{export_id}/zip?part=4")).status == 404
    assert {name.partition("-")[2][:-4]: content for name, content in found.items()} == {
        item: raw(number) for number, item in enumerate(items) if number != 1
    }
    assert [row["body"] for row in rows] == ["stored"] * 5 + ["lost", "stored"]
    assert rows[0]["subject"] == "'=n6", "no cell is a formula"
    table = (await owner.call("GET", f"/quarantine/exports/{export_id}/csv")).content
    assert list(csv.DictReader(io.StringIO(table.decode()))) == rows
    assert table.endswith((await owner.call("GET", f"/quarantine/exports/{export_id}/csv?after=6")).content)


async def test_holds_quota_and_purge(
    owner: Door, operator: Door, pool: Any, items: list[str], seeds: dict[str, str]
) -> None:
    assert (await owner.call("PUT", f"/quarantine/{items[0]}/hold", {"held": True})).status == 200
    assert (await owner.call("PUT", "/domains/example.test/hold", {"note": "why"})).json["note"] == "why"
    assert [each["domain"] for each in (await owner.call("GET", "/holds")).json["items"]] == ["example.test"]
    assert (await owner.call("POST", f"/quarantine/{items[1]}/delete")).status == 403
    assert (await owner.call("DELETE", "/domains/example.test/hold")).status == 204
    quota = f"/accounts/{seeds['account']}/quota"
    assert (await owner.call("PUT", quota, {"quota_bytes": 1})).status == 403
    assert (await operator.call("PUT", quota, {"quota_bytes": 10**9})).json["quota_bytes"] == 10**9
    assert (await owner.call("GET", quota)).json["mails"] == MAILS
    assert (await owner.call("POST", "/quarantine/purge", {"recipient": "YOU@example.test"})).status == 202
    await finish(pool)
    assert [each["id"] for each in (await owner.call("GET", "/quarantine")).json["items"]] == [items[0]]


async def test_a_strangers_is_as_if_it_were_not(
    stranger: Door, owner: Door, pool: Any, items: list[str], seeds: dict[str, str]
) -> None:
    act = (await owner.call("POST", f"/quarantine/{items[0]}/delete")).json["act"]
    made = await bulk.begin(pool, Viewer("x", seeds["account"], "owner", "api"), "export", chosen=items[1:])
    await finish(pool)
    calls: list[tuple[str, str, Any]] = [
        ("POST", f"/quarantine/{items[1]}/delete", None),
        ("POST", f"/quarantine/{items[1]}/block", {}),
        ("POST", f"/quarantine/{items[0]}/restore", None),
        ("PUT", f"/quarantine/{items[1]}/hold", {}),
        ("GET", f"/quarantine/{items[1]}/history", None),
        ("POST", f"/quarantine/acts/{act}/undo", None),
        ("POST", "/quarantine/actions", {"act": "delete", "items": items[1:2]}),
        *(("POST", f"/quarantine/actions/{made}/{do}", None) for do in ("cancel", "resume", "undo")),
        ("GET", f"/quarantine/actions/{made}", None),
        *(("GET", f"/quarantine/exports/{made}/{form}", None) for form in ("mbox", "csv", "zip")),
        ("PUT", "/domains/example.test/hold", {}),
        ("DELETE", "/domains/example.test/hold", None),
        ("GET", f"/accounts/{seeds['account']}/quota", None),
        ("POST", "/quarantine/purge", {"recipient": "you@example.test"}),
    ]
    for method, path, body in calls:
        reply = await stranger.call(method, path, body)
        assert reply.status == 404, (method, path, reply.content)
    assert (await stranger.call("GET", "/quarantine/bin")).json["items"] == []
    assert (await stranger.call("GET", "/quarantine/actions")).json["items"] == []
