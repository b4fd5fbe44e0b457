"""Domains, lists, recipients and nodes by the API, and what nodes would be handed of them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509

from control.ca import Authority, make_key, make_request, node_uri
from syncd import keys, shards
from syncd.layers import DomainLayer, Entry, Member, Recipient, digest
from tests.control.api.conftest import Door

HOPS = [{"host": "MX.Example.TEST.", "port": 2525, "tls": "required"}, {"host": "2001:DB8::1"}]
PATH = "/domains/example.test"


async def _layer(pool: Any, key: str = keys.domain("example.test")) -> DomainLayer:
    value = await pool.fetchval("select value from outbox where key = $1 order by revision desc limit 1", key)
    return msgspec.json.decode(value, type=DomainLayer)


async def _find(pool: Any, listed: Any, key: str) -> bytes | None:
    bodies = {row["hash"]: row["body"] for row in await pool.fetch("select hash, body from shards")}
    for name, body in bodies.items():
        assert digest(body) == name
    return shards.find(listed, key, bodies.__getitem__)


async def test_a_domain_lives(operator: Door, owner: Door, seeds: dict[str, str], pool: Any) -> None:
    made = await operator.call("POST", "/domains", {"name": "Example.TEST.", "next_hops": HOPS})
    assert (made.status, made.headers["Location"]) == (201, "/api/v1/domains/example.test")
    assert (made.json["account"], made.json["next_hops"][0]["host"]) == (seeds["account"], "mx.example.test")
    assert (await operator.call("POST", "/domains", {"name": "example.test", "next_hops": HOPS})).status == 409
    shown = (await owner.call("GET", "/domains/EXAMPLE.test")).json
    assert shown["next_hops"][1] == {"host": "2001:db8::1", "port": 25, "tls": "opportunistic", "preference": 10}
    assert shown["hash"] == made.json["hash"]
    moved = await owner.call("PATCH", PATH, {"next_hops": [{"host": "192.0.2.7"}]})
    assert moved.json["revision"] > made.json["revision"]
    assert (await _layer(pool)).next_hops[0].host == "192.0.2.7"
    assert (await owner.call("PATCH", PATH, {})).json["revision"] == moved.json["revision"]
    gone = (await owner.call("DELETE", PATH)).json
    assert await pool.fetchval("select value from outbox where revision = $1", gone["revision"]) is None
    assert (await owner.call("GET", PATH)).status == 404
    assert (await operator.call("POST", "/domains", {"name": "example.test", "next_hops": HOPS})).status == 201


async def test_an_owner_has_to_prove_a_new_domain(owner: Door, seeds: dict[str, str]) -> None:
    """No name server answers here, and silence is no proof."""
    reply = await owner.call("POST", "/domains", {"name": "theirs.test", "next_hops": HOPS})
    assert reply.status == 422
    assert f'_mxfleet.theirs.test. TXT "account={seeds["account"]}"' in reply.json["reason"]


async def test_domains_are_paged_by_name(operator: Door, domain: str) -> None:
    for name in ("b.test", "a.test", "straße.test"):
        await operator.call("POST", "/domains", {"name": name, "next_hops": HOPS})
    first = (await operator.call("GET", "/domains?limit=2")).json
    second = (await operator.call("GET", f"/domains?limit=2&cursor={first['next']}")).json
    names = [each["name"] for each in first["items"] + second["items"]]
    assert names == ["a.test", "b.test", "example.test", "xn--strae-oqa.test"]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("Ann@Example.ORG", "ann@example.org"),
        ("@example.org", "example.org"),
        ("example.org", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("192.0.2.77", "192.0.2.77/32"),
        ("192.0.2.77/24", "192.0.2.0/24"),
        ("2001:db8::1/64", "2001:db8::/64"),
    ],
)
async def test_an_entry_is_found_by_its_one_spelling(
    owner: Door, domain: str, pool: Any, typed: str, stored: str
) -> None:
    body = {"kind": "deny", "match": typed, "note": "n\n\tn", "expires": "2099-01-01T00:00:00Z"}
    made = await owner.call("POST", PATH + "/lists", body)
    assert (made.status, made.json["match"]) == (201, stored)
    found = await _find(pool, (await _layer(pool)).entries, stored)
    assert found
    entry = msgspec.json.decode(found, type=Entry)
    assert (entry.id, entry.kind, entry.expires, entry.note) == (made.json["id"], "deny", 4070908800.0, "n\n\tn")
    assert (await owner.call("POST", PATH + "/lists", {"kind": "allow", "match": stored})).status == 409
    one = f"{PATH}/lists/{made.json['id']}"
    assert (await owner.call("GET", one)).json["match"] == stored
    assert (await owner.call("DELETE", one)).status == 202
    assert (await owner.call("GET", one)).status == 404
    assert (await owner.call("DELETE", one)).status == 404
    assert (await _layer(pool)).entries.count == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"match": "300.1.1.1/8"},
        {"match": "nodots"},
        {"match": "a@b@"},
        {"match": "a b@example.org"},
        {"match": "a\tb"},
        {"match": ""},
        {"match": "x.test", "kind": "maybe"},
        {"match": "x.test", "expires": "tomorrow"},
        {"match": "x.test", "expires": "2099-01-01T00:00:00"},
        {"match": "x.test", "note": "x" * 300},
        {"match": "x.test", "note": "\x00"},
    ],
)
async def test_entries_that_cannot_be(owner: Door, domain: str, wrong: dict[str, str]) -> None:
    assert (await owner.call("POST", PATH + "/lists", {"kind": "deny", **wrong})).status == 422


async def test_recipients_listed_amended_and_any_again(owner: Door, domain: str, pool: Any) -> None:
    listed = ["Ann", "bob@example.test", {"recipient": "carl", "settings": {"scoring": {"tag": "C"}}}]
    assert (await owner.call("PUT", PATH + "/recipients", {"recipients": listed})).status == 202
    layer = await _layer(pool)
    carl = await _find(pool, layer.recipients, "carl")
    assert carl
    assert msgspec.json.decode(carl, type=Recipient).settings == {"scoring": {"tag": "C"}}
    assert await _find(pool, layer.recipients, "ann") == b"{}"
    assert await _find(pool, layer.recipients, "dora") is None
    await owner.call("PATCH", PATH + "/recipients", {"add": ["dora"], "remove": ["ann@EXAMPLE.test"]})
    page = (await owner.call("GET", PATH + "/recipients?limit=2")).json
    rest = (await owner.call("GET", f"{PATH}/recipients?limit=2&cursor={page['next']}")).json
    assert [each["recipient"] for each in page["items"] + rest["items"]] == ["bob", "carl", "dora"]
    assert (page["listed"], page["count"]) == (True, 3)
    assert (await owner.call("PUT", PATH + "/recipients", {"recipients": []})).status == 202
    layer = await _layer(pool)
    assert layer.recipients is not None
    assert layer.recipients.count == 0
    assert (await owner.call("PUT", PATH + "/recipients", {"recipients": None})).status == 202
    assert (await _layer(pool)).recipients is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"recipients": ["a@other.test"]},
        {"recipients": ["a", "A"]},
        {"recipients": ["a b"]},
        {"recipients": [""]},
        {"recipients": [1]},
        {"recipients": [{"recipient": "a", "settings": {"nosuch": {}}}]},
        {"recipients": [{"recipient": "a", "settings": {"scoring": {"refuse_at": -1}}}]},
        {},
    ],
)
async def test_recipients_that_cannot_be(owner: Door, domain: str, wrong: dict[str, Any]) -> None:
    assert (await owner.call("PUT", PATH + "/recipients", wrong)).status == 422
    assert (await owner.call("GET", PATH + "/recipients")).json["listed"] is False


async def test_a_recipient_cannot_set_what_its_domain_locks(owner: Door, domain: str) -> None:
    await owner.call("PATCH", PATH + "/settings", {"locks": ["scoring"]})
    wanted = {"recipients": [{"recipient": "a", "settings": {"scoring": {"tag": "A"}}}]}
    reply = await owner.call("PUT", PATH + "/recipients", wanted)
    assert (reply.status, reply.json["field"]) == (422, "scoring.tag")


async def test_a_long_list_is_cut_and_travels_as_a_bulk_change(owner: Door, domain: str, pool: Any) -> None:
    names = [f"user{number}" for number in range(60_000)]
    assert (await owner.call("PUT", PATH + "/recipients", {"recipients": names})).status == 202
    layer = await _layer(pool)
    assert layer.recipients
    assert (len(layer.recipients.hashes) > 1, layer.recipients.count) == (True, 60_000)
    assert await pool.fetchval("select max(length(body)) from shards") <= shards.SHARD_BYTES
    assert await _find(pool, layer.recipients, "user59999") == b"{}"
    await owner.call("PATCH", PATH + "/recipients", {"add": ["one.more"]})
    rows = await pool.fetch(
        "select bulk from outbox where key = $1 order by revision desc limit 2", keys.domain(domain)
    )
    assert [row["bulk"] for row in rows] == [True, True]
    await owner.call("PATCH", PATH + "/settings", {"scoring": {"tag": "A"}})
    assert not await pool.fetchval("select bulk from outbox order by revision desc limit 1")


def _joining(token: str, **more: Any) -> dict[str, Any]:
    place = {"spool_host": "127.0.0.1", "spool_port": 7001, "smtp_host": "127.0.0.1", "smtp_port": 2500}
    csr = make_request(make_key(), "whoever").decode()
    scrape = {"follow": "http://127.0.0.1:9001/metrics"}
    return {"token": token, "name": "mx1", **place, "scrape": scrape, "csr": csr, **more}


async def _token(operator: Door) -> str:
    made = await operator.call("POST", "/nodes/tokens", {})
    assert made.status == 201
    token: str = made.json["token"]
    return token


async def test_a_node_joins_drains_and_leaves(operator: Door, pool: Any, tmp_path: Path) -> None:
    authority = Authority.make()
    authority.save(tmp_path / "ca.pem", tmp_path / "ca.key")
    nobody = Door(operator.app, "")
    joined = await nobody.call("POST", "/nodes/join", _joining(await _token(operator)))
    assert joined.status == 201, joined.content
    cert = x509.load_pem_x509_certificate(joined.json["cert"].encode())
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert node_uri("mx1") in names.get_values_for_type(x509.UniformResourceIdentifier)
    assert joined.json["ca"].encode() == authority.cert_pem
    assert (joined.json["etcd"], joined.json["receiver"]) == (["127.0.0.1:9"], "127.0.0.1:9")
    value = await pool.fetchval("select value from outbox where revision = $1", joined.json["revision"])
    assert msgspec.json.decode(value, type=Member).state == "joined"
    fleet = (await operator.call("GET", "/nodes")).json
    assert [(each["name"], each["state"], each["reports"]) for each in fleet["items"]] == [("mx1", "joined", "unheard")]
    targets = await operator.app.test_client().get("/internal/sd/prometheus", scope_base={"client": ("127.0.0.1", 1)})
    labels = [each["labels"] for each in msgspec.json.decode(await targets.get_data())]
    assert [(each["node"], each["process"]) for each in labels] == [("control", "panel"), ("mx1", "follow")]
    drained = await operator.call("POST", "/nodes/mx1/drain", {})
    assert (drained.status, drained.json["state"]) == (202, "draining")
    assert (await operator.call("POST", "/nodes/mx1/drain", {})).json["revision"] == drained.json["revision"]
    assert (await operator.call("DELETE", "/nodes/mx1")).status == 200
    assert await pool.fetchval("select value from outbox order by revision desc limit 1") is None
    assert (await operator.call("DELETE", "/nodes/mx1")).status == 404
    assert (await operator.call("POST", "/nodes/mx1/drain", {})).status == 404


async def test_a_token_lets_one_node_join_once(operator: Door, pool: Any, tmp_path: Path) -> None:
    Authority.make().save(tmp_path / "ca.pem", tmp_path / "ca.key")
    token = await _token(operator)
    assert (await operator.call("POST", "/nodes/join", _joining(token))).status == 201
    assert (await operator.call("POST", "/nodes/join", _joining(token, name="mx2", smtp_port=2501))).status == 422
    await pool.execute("update join_tokens set used_at = null, expires_at = now() - interval '1 second'")
    assert (await operator.call("POST", "/nodes/join", _joining(token, name="mx2", smtp_port=2501))).status == 422
    elsewhere = await operator.call("POST", "/nodes/join", _joining(await _token(operator), spool_port=7002))
    assert elsewhere.status == 409
    again = await operator.call("POST", "/nodes/join", _joining(await _token(operator)))
    assert again.status == 201, "a node that lost its answer asks again"


@pytest.mark.parametrize(
    "wrong",
    [
        {"csr": "nonsense"},
        {"name": "MX 1"},
        {"name": "../etc"},
        {"smtp_port": 0},
        {"spool_host": "a b"},
        {"scrape": {"follow": "file:///etc/passwd"}},
    ],
)
async def test_a_bad_join_spends_no_token(operator: Door, tmp_path: Path, wrong: dict[str, Any]) -> None:
    Authority.make().save(tmp_path / "ca.pem", tmp_path / "ca.key")
    token = await _token(operator)
    assert (await operator.call("POST", "/nodes/join", _joining(token, **wrong))).status == 422
    assert (await operator.call("POST", "/nodes/join", _joining(token))).status == 201
