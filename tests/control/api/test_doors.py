"""Who is let in, what strangers see, and what bad input gets: never another's data, never a 5xx."""

import asyncio
import secrets
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quart import Quart

from control import auth, passwords
from control.api import openapi
from control.api.operation import OPERATIONS
from control.auth import is_foreign
from control.throttle import Throttle
from tests.control.api.conftest import Door, add_node

NEW_DOMAIN = {"name": "new.test", "next_hops": [{"host": "127.0.0.1"}]}


@pytest.mark.parametrize(
    "given_header", ["", "Bearer", "Bearer nonsense", "Basic eDp5", "Bearer " + "x" * 5000, "bearer \xff"]
)
async def test_nobody_gets_in_without_a_token(app: Quart, domain: str, given_header: str) -> None:
    answer = await app.test_client().get("/api/v1/domains", headers={"Authorization": given_header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_every_operation_needs_a_token_but_joining(app: Quart, seeds: dict[str, str]) -> None:
    for each in OPERATIONS:
        path = "/api/v1" + each.path.replace("{", "").replace("}", "")
        answer = await app.test_client().open(path, method=each.method, data=b"{}")
        assert (answer.status_code == 401) == (each.audience != "anybody"), each


async def test_a_stranger_sees_of_a_domain_what_there_is_of_a_missing_one(
    owner: Door, stranger: Door, domain: str, seeds: dict[str, str]
) -> None:
    """Every operation that names a thing, asked for a real one of another account and for one that is not there."""
    entry = (await owner.call("POST", f"/domains/{domain}/lists", {"kind": "deny", "match": "spam.test"})).json["id"]
    revision = (await owner.call("PATCH", f"/domains/{domain}/settings", {"scoring": {"tag": "A"}})).json["revision"]
    bodies: dict[str, Any] = {
        "create_domain_entry": {"kind": "deny", "match": "x.test"},
        "roll_back_domain_settings": {"revision": revision},
        "roll_back_account_settings": {"revision": revision},
        "set_recipients": {"recipients": ["a"]},
        "create_token": {"name": "x"},
        "create_account_entry": {"kind": "deny", "match": "x.test"},
    }
    asked = [each for each in OPERATIONS if "{" in each.path and each.audience == "viewer"]
    assert len(asked) > 15
    for each in asked:
        mine = {"domain": domain, "entry": entry, "account": seeds["account"]}
        missing = {"domain": "missing.test", "entry": entry, "account": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}
        answers = []
        for names in (mine, missing):
            body = None if each.body is None else bodies.get(each.name, {})
            reply = await stranger.call(each.method, _filled(each.path, names), body)
            answers.append((reply.status, reply.json["title"]))
        assert answers[0] == answers[1] == (404, "Not found"), each
    assert (await owner.call("GET", f"/domains/{domain}/settings")).json["scoring"] == {"tag": "A"}
    assert (await stranger.call("GET", "/domains")).json["items"] == []
    assert [each["name"] for each in (await stranger.call("GET", "/accounts")).json["items"]] == ["Other"]


async def test_the_next_owner_of_a_domain_sees_no_history_of_the_last(
    owner: Door, operator: Door, stranger: Door, domain: str
) -> None:
    old = (await owner.call("PATCH", f"/domains/{domain}/settings", {"scoring": {"tag": "SECRET"}})).json["revision"]
    await owner.call("POST", f"/domains/{domain}/lists", {"kind": "deny", "match": "spam.test"})
    assert (await owner.call("DELETE", f"/domains/{domain}")).json["hash"] == ""
    account = (await stranger.call("GET", "/accounts")).json["items"][0]["id"]
    made = await operator.call("POST", "/domains", {**NEW_DOMAIN, "name": domain, "account": account})
    assert made.status == 201
    items = (await stranger.call("GET", f"/domains/{domain}/settings/history")).json["items"]
    assert [each["act"] for each in items] == ["created"]
    assert (await stranger.call("GET", f"/domains/{domain}/lists")).json["items"] == []
    assert (await stranger.call("POST", f"/domains/{domain}/settings/rollback", {"revision": old})).status == 422
    assert (await owner.call("GET", f"/domains/{domain}")).status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nodes"),
        ("POST", "/nodes/tokens"),
        ("POST", "/nodes/mx1/drain"),
        ("DELETE", "/nodes/mx1"),
        ("GET", "/system/settings"),
        ("PATCH", "/system/settings"),
        ("POST", "/accounts"),
    ],
)
async def test_what_is_the_operators(owner: Door, pool: Any, method: str, path: str) -> None:
    await add_node(pool, "mx1")
    reply = await owner.call(method, path, {} if method in ("POST", "PATCH") else None)
    assert reply.status == 403
    assert "operator" in reply.json["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'"\xff"', 400),
        (b"[" * 100_000, 400),
        (b'{"name": "\\ud800"}', 400),
        (b"null", 422),
        (b"[]", 422),
        (b'{"name": 1, "next_hops": []}', 422),
        (b'{"name": "a.test", "next_hops": []}', 422),
        (b'{"name": "a.test", "next_hops": [{"host": "h", "port": 70000}]}', 422),
        (b'{"name": "a.test", "next_hops": [{"host": "mx.test", "port": 1e400}]}', 422),
        (b'{"name": "a\\u0000.test", "next_hops": [{"host": "mx.test"}]}', 422),
        (b'{"name": "a.test", "next_hops": [{"host": "mx.test"}], "surplus": 1}', 422),
        (b'{"name": "a..test", "next_hops": [{"host": "mx.test"}]}', 422),
        (b'{"name": "test", "next_hops": [{"host": "mx.test"}]}', 422),
        (b'{"name": "192.0.2.1", "next_hops": [{"host": "mx.test"}]}', 422),
        (b'{"name": "a.test", "next_hops": [{"host": "-bad-.test"}]}', 422),
        (b'{"name": "a.test", "next_hops": [{"host": "mx.test"}], "account": "nobody"}', 404),
    ],
)
async def test_bad_bodies_get_a_problem_that_says_what(operator: Door, body: bytes, status: int) -> None:
    reply = await operator.call("POST", "/domains", body)
    assert reply.status == status, reply.content
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert (reply.json["status"], bool(reply.json["title"]), bool(reply.json["detail"])) == (status, True, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nosuch", 404),
        ("GET", "/domains/%00", 404),
        ("GET", "/domains/a%2Fb", 404),
        ("GET", "/domains/" + "a" * 3000, 404),
        ("GET", "/domains/\N{SNOWMAN}", 404),
        ("PUT", "/domains", 405),
        ("GET", "/domains?limit=0", 422),
        ("GET", "/domains?limit=x", 422),
        ("GET", "/domains?limit=99999999999999999999999", 422),
        ("GET", "/domains?cursor=%00", 422),
        ("GET", "/domains?limit=5&limit=x", 200),
        ("GET", "/domains/example.test/settings?wait=perhaps", 422),
        ("GET", "/domains/example.test/settings?wait=applied&timeout=nan", 422),
        ("GET", "/domains/example.test/settings?wait=applied&timeout=1e9", 422),
        ("GET", "/domains/example.test/settings/history?cursor=99999999999999999999", 422),
        ("GET", "/domains/example.test/lists/%F0%9F%92%A9", 404),
    ],
)
async def test_bad_addresses(operator: Door, domain: str, method: str, path: str, status: int) -> None:
    reply = await operator.call(method, path, {} if method == "PUT" else None)
    assert reply.status == status, reply.content
    if status == 405:
        assert reply.headers["Allow"] == "GET, POST"


async def test_a_body_beyond_the_bound_is_413(app: Quart, operator: Door) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 1000
    assert (await operator.call("POST", "/domains", b" " * 2000)).status == 413


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
SHAPED = st.dictionaries(
    st.sampled_from(
        ["scoring", "refusal", "locks", "name", "next_hops", "add", "recipients", "kind", "match", "revision"]
    ),
    st.dictionaries(st.sampled_from(["refuse_at", "tag", "early", "host", "mode"]), JSON, max_size=3) | JSON,
    max_size=4,
)


@given(body=JSON | SHAPED, which=st.integers(0, 10**6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_body_makes_a_5xx(operator: Door, domain: str, body: Any, which: int) -> None:
    """Invariant: any JSON at any operation is answered below 500, errors as problem details."""
    taking = [each for each in OPERATIONS if each.body is not None]
    each = taking[which % len(taking)]
    path = _filled(each.path, {"domain": domain, "entry": "x", "account": "x", "node": "mx1", "item": "x"})
    reply = await operator.call(each.method, path, msgspec.json.encode(body))
    assert reply.status < 500, (each.name, reply.content)
    assert reply.status < 400 or reply.headers["Content-Type"] == "application/problem+json"


async def test_the_database_away_is_a_503_that_says_so(owner: Door, pool: Any) -> None:
    await pool.close()
    reply = await owner.call("GET", "/domains")
    assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
    assert "mail is not affected" in reply.json["detail"]


async def test_answers_are_described(operator: Door, domain: str, pool: Any) -> None:
    await add_node(pool, "mx1")
    described = openapi.describe()
    assert described["openapi"] == "3.1.0"
    names = [each["operationId"] for path in described["paths"].values() for each in path.values()]
    assert len(names) == len(set(names)) == len(OPERATIONS)
    assert (await operator.app.test_client().get("/api/v1/openapi.json")).status_code == 200


async def test_sign_in_gives_a_session_that_ends_at_sign_out(pool: Any, seeds: dict[str, str]) -> None:
    address = f"192.0.2.{secrets.randbelow(250)}"
    assert await auth.sign_in(pool, seeds["email"], "wrong", client_ip=address) is None
    assert await auth.sign_in(pool, "nobody@example.test", "wrong", client_ip=address) is None
    cookie = await auth.sign_in(pool, seeds["email"].upper(), seeds["password"], client_ip=address, user_agent="b\x00")
    assert cookie
    session = await auth.by_session(pool, cookie)
    assert session
    assert (session.viewer.author, session.viewer.account_id) == (seeds["email"], seeds["account"])
    assert auth.csrf_fits(session, session.csrf)
    assert not auth.csrf_fits(session, "")
    assert await pool.fetchval("select count(*) from sessions where token_hash = $1", cookie.encode()) == 0
    await auth.sign_out(pool, cookie)
    assert await auth.by_session(pool, cookie) is None


async def test_guessing_is_throttled_even_in_parallel(pool: Any, seeds: dict[str, str]) -> None:
    email = f"{secrets.token_hex(4)}@example.test"
    tries = [auth.sign_in(pool, email, "guess", client_ip=f"198.51.100.{n}") for n in range(12)]
    ends = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(each, auth.Throttled) for each in ends) == 4
    with pytest.raises(auth.Throttled):
        await auth.sign_in(pool, email, "guess", client_ip="203.0.113.1")


def test_a_throttle_forgets_with_time_and_is_bounded() -> None:
    now = [0.0]
    throttle = Throttle(2, 10, clock=lambda: now[0])
    for _ in range(2):
        throttle.count("a")
    assert throttle.wait_s("a") == 10
    assert throttle.wait_s("b") == 0
    now[0] = 10
    assert throttle.wait_s("a") == 0
    throttle.count("a")
    throttle.give_back("a")
    for number in range(20_000):
        throttle.count(str(number))
    assert throttle.wait_s("a") == 0


@pytest.mark.parametrize("typed", ["", "x" * 5000, "\ud800", "\x00"])
async def test_odd_passwords_are_wrong_passwords(typed: str) -> None:
    assert not await passwords.fits(await passwords.digest("right"), typed)
    assert not await passwords.fits(None, typed)


@pytest.mark.parametrize(
    ("origin", "fetch_site", "foreign"),
    [
        (None, None, False),
        ("http://panel:80", None, False),
        ("http://evil.test", None, True),
        ("null", None, True),
        (None, "same-origin", False),
        (None, "none", False),
        (None, "same-site", True),
        ("http://panel:80", "cross-site", True),
    ],
)
def test_what_comes_from_another_site(origin: str | None, fetch_site: str | None, foreign: bool) -> None:
    assert is_foreign(origin=origin, fetch_site=fetch_site, host="panel:80") is foreign


def _filled(path: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        path = path.replace("{" + name + "}", value)
    return path.replace("{", "").replace("}", "")
