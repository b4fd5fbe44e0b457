"""Looks over what a node really has: a real name server, and lists in a real last-known-good store."""

import time
from typing import Any

import pytest

from mx.checks.dns import DnsResolver
from mx.filter import Action, Tools
from mx.filters import ORDER, sender_list
from mx.policy import NotKnown
from syncd import shards
from syncd.layers import AccountLayer, Entry, SystemLayer, canonical
from tests.mx.filters.tables import NOW, Lists, seen, settings_of
from tests.mx.test_policy import Home, domain, published

BY_NAME = {one.name: one for one in ORDER}

LISTED = {"client_ip": "127.0.0.99"}
DNS = [
    ("dnsbl", {"zones": [{"zone": "dnsbl.test"}]}, LISTED, Action.REFUSE, "listed in the demo"),
    ("dnsbl", {"zones": [{"zone": "dnsbl.test"}]}, {"client_ip": "127.0.0.98"}, Action.PASS, ""),
    ("dnsbl", {"zones": [{"zone": "dnsbl.test"}]}, {"client_ip": "2001:db8::1"}, Action.PASS, ""),
    ("dnsbl", {"zones": [{"zone": "no-such-list.test"}]}, LISTED, Action.PASS, ""),
    ("spf", {}, {"sender": "x@bank.test", "client_ip": "127.0.0.5"}, Action.REFUSE, "SPF of bank.test says fail"),
    ("spf", {}, {"sender": "x@partner.test", "client_ip": "127.0.0.5"}, Action.PASS, ""),
    ("spf", {}, {"sender": "x@newsletter.test", "client_ip": "127.0.0.5"}, Action.SCORE, "says softfail"),
    ("spf", {}, {"sender": "x@nobody.test", "client_ip": "127.0.0.5"}, Action.PASS, ""),
    ("helo", {"unknown": "refuse"}, {"helo": "mail.honest.test"}, Action.PASS, ""),
    ("helo", {"unknown": "refuse"}, {"helo": "nowhere.honest.test"}, Action.REFUSE, "no address in DNS"),
]


@pytest.mark.parametrize(("name", "settings", "session", "action", "says"), DNS)
async def test_looks_over_a_real_name_server(
    knot: str, name: str, settings: dict[str, Any], session: dict[str, str], action: Action, says: str
) -> None:
    async def no_facts(name: str) -> None:
        return None

    filter_, typed = BY_NAME[name], settings_of(BY_NAME[name], settings)
    facts = await filter_.look(seen(**session), typed, Tools(DnsResolver((knot,)), Lists(), NOW, no_facts))
    verdict = filter_.judge(facts, typed)
    assert verdict.action is action
    assert says in verdict.reason


def entry(match: str, kind: str, **more: Any) -> tuple[str, bytes]:
    return match, canonical(Entry(id=f"id of {match}", kind=kind, match=match, **more))  # type: ignore[arg-type]


SYSTEM, SYSTEM_BODIES = shards.build(dict([entry("192.0.2.0/24", "deny"), entry("evil.test", "deny")]))
ACCOUNT, ACCOUNT_BODIES = shards.build(
    dict([entry("partner.evil.test", "allow"), entry("late.test", "deny", expires=1.0)])
)
DOMAIN, DOMAIN_BODIES = shards.build(dict([entry("ann@sender.test", "allow"), entry("sender.test", "deny")]))


@pytest.mark.parametrize(
    ("sender", "client_ip", "action", "layer"),
    [
        ("ann@sender.test", "192.0.2.7", Action.ALLOW, "domain"),
        ("bob@sender.test", "198.51.100.7", Action.REFUSE, "domain"),
        ("bob@sender.test", "192.0.2.7", Action.REFUSE, "system"),
        ("x@partner.evil.test", "198.51.100.7", Action.ALLOW, "account"),
        ("x@evil.test", "198.51.100.7", Action.REFUSE, "system"),
        ("x@late.test", "198.51.100.7", Action.PASS, ""),
        ("", "192.0.2.7", Action.REFUSE, "system"),
        ("", "198.51.100.7", Action.PASS, ""),
    ],
)
async def test_lists_of_a_real_store(home: Home, sender: str, client_ip: str, action: Action, layer: str) -> None:
    bodies = {**SYSTEM_BODIES, **ACCOUNT_BODIES, **DOMAIN_BODIES}
    layers = (SystemLayer(entries=SYSTEM), AccountLayer("acc1", entries=ACCOUNT), domain(entries=DOMAIN))
    home.write(published(*layers, bodies=bodies))
    verdict = await _judged(home, sender, client_ip)
    assert (verdict.action, verdict.evidence.get("layer", "")) == (action, layer)


async def test_a_shard_that_is_missing_in_a_real_store_is_unsure(home: Home) -> None:
    layers = (SystemLayer(entries=SYSTEM), AccountLayer("acc1"), domain(entries=DOMAIN))
    home.write(published(*layers, bodies=DOMAIN_BODIES))
    with pytest.raises((KeyError, NotKnown)):
        await _judged(home, "ann@sender.test", "198.51.100.7")


async def _judged(home: Home, sender: str, client_ip: str) -> Any:
    async def no_facts(name: str) -> None:
        return None

    typed = settings_of(sender_list.FILTER, {})
    tools = Tools(DnsResolver(("127.0.0.1:9",)), home.find().lists, time.time(), no_facts)
    return sender_list.judge(await sender_list.look(seen(sender=sender, client_ip=client_ip), typed, tools), typed)
