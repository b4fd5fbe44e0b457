"""Settings by the API: merge patch, preconditions, validation, locks, history, rollback, receipts."""

import asyncio
from typing import Any

import msgspec
import pytest

from control.receipts import Receipts
from control.store import layers, settings
from control.store.layers import Change
from syncd import keys
from syncd.layers import DomainLayer, digest
from tests.control.api.conftest import OPERATOR, Door, Report, add_node, until

PATH = "/domains/example.test/settings"


async def _document(door: Door) -> dict[str, Any]:
    body: dict[str, Any] = (await door.call("GET", PATH)).json
    return {name: value for name, value in body.items() if name not in ("revision", "hash")}


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ({}, {"scoring": {"refuse_at": 8}}, {"scoring": {"refuse_at": 8}}),
        ({"scoring": {"tag": "A"}}, {"scoring": {"refuse_at": 8}}, {"scoring": {"tag": "A", "refuse_at": 8}}),
        ({"scoring": {"tag": "A", "refuse_at": 8}}, {"scoring": {"tag": None}}, {"scoring": {"refuse_at": 8}}),
        ({"scoring": {"tag": "A"}}, {"scoring": {"tag": None}}, {}),
        ({"scoring": {"tag": "A"}, "retention": {"days": 3}}, {"scoring": None}, {"retention": {"days": 3}}),
        ({"refusal": {"early": ["a", "b"]}}, {"refusal": {"early": ["c"]}}, {"refusal": {"early": ["c"]}}),
        ({"scoring": {"tag": "A"}}, {}, {"scoring": {"tag": "A"}}),
    ],
)
async def test_a_patch_is_merged(
    owner: Door, domain: str, before: dict[str, Any], patch: dict[str, Any], after: dict[str, Any]
) -> None:
    await owner.call("PATCH", PATH, before)
    assert (await owner.call("PATCH", PATH, patch)).status == 202
    assert await _document(owner) == after


async def test_what_changes_nothing_makes_no_revision(owner: Door, domain: str) -> None:
    first = (await owner.call("PATCH", PATH, {"scoring": {"tag": "A"}})).json
    again = (await owner.call("PATCH", PATH, {"scoring": {"tag": "A"}})).json
    assert (again["revision"], again["hash"]) == (first["revision"], first["hash"])


async def test_the_hash_is_that_of_the_bytes_in_the_outbox(owner: Door, domain: str, pool: Any) -> None:
    answer = (await owner.call("PATCH", PATH, {"scoring": {"tag": "A"}})).json
    row = await pool.fetchrow("select key, value from outbox where revision = $1", answer["revision"])
    assert row["key"] == keys.domain("example.test")
    assert digest(row["value"]) == answer["hash"]
    layer = msgspec.json.decode(row["value"], type=DomainLayer)
    assert (layer.settings, layer.next_hops[0].port) == ({"scoring": {"tag": "A"}}, 2525)


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"scoring": {"refuse_at": "ten"}}, "scoring.refuse_at"),
        ({"scoring": {"refuse_at": 2000}}, "scoring.refuse_at"),
        ({"scoring": {"refuse_at": 10**400}}, "scoring.refuse_at"),
        ({"scoring": {"nosuch": 1}}, "scoring"),
        ({"scoring": "on"}, "scoring"),
        ({"scoring": [1]}, "scoring"),
        ({"nosuch": {"mode": "on"}}, "nosuch"),
        ({"": {}}, ""),
        ({"refusal": {"early": [1]}}, "refusal.early[0]"),
        ({"scoring": {"tag": "a\x00b"}}, ""),
        ({"locks": ["nosuch"]}, "locks"),
        ({"locks": "scoring"}, "locks"),
        ({"revision": 4}, "revision"),
    ],
)
async def test_what_no_node_could_judge_by_is_refused_whole(
    owner: Door, domain: str, patch: dict[str, Any], field: str
) -> None:
    before = (await owner.call("GET", PATH)).json
    good_beside = {"retention": {"days": 5}, **patch}
    reply = await owner.call("PATCH", PATH, good_beside)
    assert reply.status == 422, reply.content
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert (reply.json.get("field", ""), bool(reply.json["reason"])) == (field, True)
    assert (await owner.call("GET", PATH)).json == before


async def test_a_patch_on_an_old_base_is_refused_with_what_is_newer(owner: Door, domain: str) -> None:
    base = (await owner.call("PATCH", PATH, {"scoring": {"tag": "A"}})).json
    newer = (await owner.call("PATCH", PATH, {"scoring": {"tag": "B"}})).json
    for match in (f'"{base["hash"]}"', str(base["revision"])):
        reply = await owner.call("PATCH", PATH, {"retention": {"days": 9}}, If_Match=match)
        assert reply.status == 409
        told = reply.json["newer"]
        assert (told["revision"], told["author"]) == (newer["revision"], "token owner")
        assert told["diff"] == [{"path": "scoring.tag", "before": "A", "after": "B"}]
    assert await _document(owner) == {"scoring": {"tag": "B"}}
    for match in (f'"{newer["hash"]}"', f'W/"{newer["hash"]}"', "*"):
        assert (await owner.call("PATCH", PATH, {"retention": {"days": 9}}, If_Match=match)).status == 202, match
        newer = (await owner.call("PATCH", PATH, {"retention": None})).json


async def test_a_base_nobody_knows_is_refused(owner: Door, domain: str) -> None:
    await owner.call("PATCH", PATH, {"scoring": {"tag": "A"}})
    assert (await owner.call("PATCH", PATH, {}, If_Match='"no such hash"')).status == 409


async def test_a_list_entry_made_meanwhile_is_no_conflict(owner: Door, domain: str) -> None:
    base = (await owner.call("PATCH", PATH, {"scoring": {"tag": "A"}})).json["hash"]
    await owner.call("POST", "/domains/example.test/lists", {"kind": "deny", "match": "spam.test"})
    assert (await owner.call("PATCH", PATH, {"scoring": {"tag": "B"}}, If_Match=f'"{base}"')).status == 202


async def test_a_locked_field_is_changed_by_nobody_below(owner: Door, operator: Door, domain: str) -> None:
    await owner.call("PATCH", PATH, {"scoring": {"refuse_at": 9}})
    locked = {"scoring": {"refuse_at": 7, "tag": "SYS"}, "locks": ["scoring.refuse_at"]}
    assert (await operator.call("PATCH", "/system/settings", locked)).status == 202
    reply = await owner.call("PATCH", PATH, {"scoring": {"refuse_at": 3}})
    assert (reply.status, reply.json["field"]) == (422, "scoring.refuse_at")
    assert "system" in reply.json["reason"]
    assert (await owner.call("PATCH", PATH, {"scoring": {"tag": "OURS"}})).status == 202
    resolved = (await owner.call("GET", PATH + "?resolved=true")).json
    assert resolved["scoring"] == {"refuse_at": 7, "tag": "OURS"}
    assert (await owner.call("PATCH", PATH, {"scoring": {"refuse_at": None}})).status == 202


async def test_history_tells_author_door_and_diff_and_can_be_rolled_back(owner: Door, domain: str) -> None:
    first = (await owner.call("PATCH", PATH, {"scoring": {"tag": "A"}})).json["revision"]
    await owner.call("PATCH", PATH, {"scoring": {"tag": "B"}, "retention": {"days": 3}}, User_Agent="mxctl/1")
    items = (await owner.call("GET", PATH + "/history")).json["items"]
    assert [each["act"] for each in items] == ["settings", "settings", "created"]
    assert (items[0]["author"], items[0]["door"], items[1]["door"]) == ("token owner", "cli", "api")
    assert items[2]["diff"] == []
    assert items[0]["diff"] == [
        {"path": "retention.days", "before": None, "after": 3},
        {"path": "scoring.tag", "before": "A", "after": "B"},
    ]
    back = (await owner.call("POST", PATH + "/rollback", {"revision": first})).json
    assert back["revision"] > items[0]["revision"]
    assert await _document(owner) == {"scoring": {"tag": "A"}}
    page = (await owner.call("GET", PATH + "/history?limit=1")).json
    older = (await owner.call("GET", f"{PATH}/history?limit=1&cursor={page['next']}")).json
    assert [page["items"][0]["act"], older["items"][0]["act"]] == ["rollback", "settings"]


@pytest.mark.parametrize(("revision", "status"), [(10**6, 422), (0, 422), (2**70, 422), ("x", 422), (1.5, 422)])
async def test_a_rollback_to_no_revision_of_these_settings(
    owner: Door, domain: str, revision: object, status: int
) -> None:
    assert (await owner.call("POST", PATH + "/rollback", {"revision": revision})).status == status


async def test_commit_order_is_revision_order(pool: Any, operator: Door, domain: str) -> None:
    """Begun first, written last: the revision is given out in the order of the commits."""
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Any, layer: layers.Layer) -> Change:
        started.set()
        await go_on.wait()
        return Change(layer, "slow", None, None)

    first = asyncio.create_task(layers.change(pool, OPERATOR, "domain", "example.test", slow))
    await started.wait()
    second = await settings.patch(pool, OPERATOR, "system", "", {"scoring": {"tag": "S"}})
    go_on.set()
    assert (await first).revision == second.revision + 1
    rows = await pool.fetch("select revision, committed_at from outbox order by committed_at")
    assert [row["revision"] for row in rows] == sorted(row["revision"] for row in rows)


async def test_revisions_have_no_gap_under_concurrency_and_failure(pool: Any, operator: Door, domain: str) -> None:
    async def one(number: int) -> None:
        bad = number % 3 == 0
        patch = {"scoring": {"refuse_at": 2000 if bad else number}}
        reply = await operator.call("PATCH", "/system/settings" if number % 2 else PATH, patch)
        assert reply.status == (422 if bad else 202)

    await asyncio.gather(*(one(number) for number in range(1, 31)))
    rows = await pool.fetch("select revision from outbox order by revision")
    found = [row["revision"] for row in rows]
    assert found == list(range(1, len(found) + 1))
    assert found[-1] == await pool.fetchval("select revision from revision_counter")


async def test_applied_means_every_member(owner: Door, domain: str, pool: Any, report: Report) -> None:
    await add_node(pool, "mx1")
    await add_node(pool, "mx2")
    patching = asyncio.create_task(owner.call("PATCH", PATH + "?wait=applied&timeout=20", {"scoring": {"tag": "A"}}))
    await until(lambda: pool.fetchval("select true from history where act = 'settings'"))
    await report("mx1")
    await asyncio.sleep(0)
    assert not patching.done()
    await report("mx1", "mx2")
    answer = await patching
    body = answer.json
    assert (answer.status, body["applied"], set(body["nodes"])) == (200, True, {"mx1", "mx2"})
    assert {node["hash"] for node in body["nodes"].values()} == {body["hash"]}
    assert all(0 <= node["ms"] < 20_000 for node in body["nodes"].values())


@pytest.mark.parametrize(
    ("told", "state", "agreed"),
    [
        ({"state": "syncing"}, "syncing", True),
        ({"digest_of": "f" * 32}, "live", False),
        ({"unreadable": (keys.domain("example.test"),)}, "unreadable", True),
    ],
)
async def test_a_member_that_does_not_truly_have_it_is_awaited(
    owner: Door, domain: str, pool: Any, report: Report, told: dict[str, Any], state: str, agreed: bool
) -> None:
    await add_node(pool, "mx1")
    revision = (await owner.call("PATCH", PATH, {"scoring": {"tag": "A"}})).json["revision"]
    await report("mx1", **told)
    reply = await owner.call("PATCH", PATH + "?wait=applied&timeout=0.05", {})
    node = reply.json["nodes"]["mx1"]
    assert (reply.status, reply.json["applied"]) == (202, False)
    assert (node["revision"], node["state"], node["hash"] is not None) == (revision, state, agreed)


async def test_an_unheard_member_is_named_and_a_drained_one_is_not_awaited(
    owner: Door, domain: str, pool: Any, report: Report
) -> None:
    for name in ("mx1", "mx2", "mx3"):
        await add_node(pool, name)
    await pool.execute("update nodes set state = 'drained' where name = 'mx3'")
    await report("mx1")
    body = (await owner.call("PATCH", PATH, {"scoring": {"tag": "A"}})).json
    assert set(body["nodes"]) == {"mx1", "mx2"}
    unheard = body["nodes"]["mx2"]
    assert (unheard["state"], unheard["revision"], unheard["age_s"]) == ("unheard", None, None)
    behind = body["nodes"]["mx1"]
    assert behind["hash"] not in (None, body["hash"])
    await report("mx1", "mx2")
    assert (await owner.call("GET", PATH + "?wait=applied&timeout=5")).json["applied"]


async def test_a_node_that_falls_silent_after_its_report(receipts: Receipts, pool: Any, report: Report) -> None:
    await add_node(pool, "mx1")
    await report("mx1")
    async with pool.acquire() as connection:
        target = await layers.newest(connection)
    assert receipts.applied(target)
    receipts.heard_only(set())
    at = receipts.nodes(target)["mx1"]
    assert (at.applied, at.state, at.age_s is not None) == (False, "away", True)


async def test_reading_holds_nothing_that_changes_by_itself(owner: Door, domain: str, pool: Any) -> None:
    await add_node(pool, "mx1")
    first = await owner.call("GET", PATH)
    assert first.json == (await owner.call("GET", PATH)).json
    assert set(first.json) == {"revision", "hash"}
    assert first.headers["ETag"] == f'"{first.json["hash"]}"'
