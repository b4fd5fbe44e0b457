"""The worker's reading path: what it finds, what it will not say, and a memcached that is frozen or poisoned."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY
from pymemcache.client.base import Client

from mx.policy import Absent, NotKnown, Policies, Policy
from syncd import config, keys, shards
from syncd.lastgood import DIRECTORY, Writer
from syncd.layers import AccountLayer, DomainLayer, Entry, NextHop, Recipient, SystemLayer, canonical
from syncd.published import Tally, element, sealed
from syncd.status import Status, boot_id, monotonic
from tests.servers import Memcached

HOP = NextHop(host="127.0.0.1", port=2525)
RECIPIENTS, RECIPIENT_BODIES = shards.build(
    {
        "anna": canonical(Recipient()),
        "bert": canonical(Recipient(settings={"retention": {"days": 3}, "scoring": {"refuse_at": 1.0}})),
    }
)
ENTRIES, ENTRY_BODIES = shards.build(
    {
        "friend@out.test": canonical(Entry(id="1", kind="allow", match="friend@out.test")),
        "192.0.2.0/24": canonical(Entry(id="2", kind="deny", match="192.0.2.0/24", expires=time.time() + 3600)),
        "old.test": canonical(Entry(id="3", kind="deny", match="old.test", expires=time.time() - 1)),
    }
)


def published(
    *layers: SystemLayer | AccountLayer | DomainLayer, bodies: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """Layers and shards as they stand in the store."""
    values = {_key(layer): sealed(canonical(layer)) for layer in layers}
    return values | {keys.shard(name): body for name, body in (bodies or {}).items()}


def _key(layer: SystemLayer | AccountLayer | DomainLayer) -> str:
    if isinstance(layer, SystemLayer):
        return keys.SYSTEM
    return keys.account(layer.account) if isinstance(layer, AccountLayer) else keys.domain(layer.domain)


def domain(name: str = "a.test", settings: dict[str, Any] | None = None, **more: Any) -> DomainLayer:
    """A domain's layer."""
    return DomainLayer(domain=name, account="acc1", next_hops=(HOP,), settings=settings or {}, **more)


def _node(directory: Path, socket: str) -> config.Node:
    return config.Node(
        name="mx1",
        state_dir=str(directory),
        panel_url="",
        memcached_socket=socket,
        resolver=(),
        smtp=config.Smtp(host="", port=0, hostname=""),
        spool=config.Spool(socket="", journal_dir="", host="", port=0, receiver_host="", receiver_port=0),
        etcd=config.Etcd(endpoints=()),
        tls=config.Tls("", "", ""),
    )


class Home:
    """A node's store, written as follow would, and a worker that reads it.

    LMDB forbids a process to open a file twice, so that the worker lets go of it while it is written.
    """

    def __init__(self, directory: Path, socket: str) -> None:
        self._store, self.node = directory / DIRECTORY, _node(directory, socket)
        self.policies = Policies(self.node)
        self._revision = 0

    def write(self, values: Mapping[str, bytes], **status: Any) -> None:
        """Make the store hold exactly these."""
        self.policies.close()
        self._revision += 1
        with Writer(self._store) as store, store.change() as change:
            for key in change.keys("", "~"):
                change.delete(key)
            tally = Tally()
            for key, value in values.items():
                change.put(key, value, element(key, value))
                tally.change(None, element(key, value))
            change.status = Status(
                **{
                    "generation": 1,
                    "revision": self._revision,
                    "digest": tally.digest,
                    "published": tally.digest,
                    "count": tally.count,
                    "state": "live",
                    "complete": True,
                    "heard_at": monotonic(),
                    "boot": boot_id(),
                    **status,
                }
            )

    def note_unreadable(self, key: str) -> None:
        """As follow does for a value it can not read and never could."""
        self.policies.close()
        with Writer(self._store) as store, store.change() as change:
            change.put_unreadable(key, element(key, b"new"))
            change.status = msgspec.structs.replace(store.status, unreadable=(key,))

    def find(self, name: str = "a.test") -> Policy:
        """The policy, which is there."""
        found = self.policies.find(name)
        assert isinstance(found, Policy)
        return found


@pytest.fixture
def home(tmp_path: Path, memcached: Memcached) -> Iterator[Home]:
    made = Home(tmp_path, memcached.socket)
    yield made
    made.policies.close()


def requests(tier: str, result: str) -> float:
    """How often a tier answered so."""
    return REGISTRY.get_sample_value("mx_cache_requests_total", {"tier": tier, "result": result}) or 0.0


def test_layers_are_resolved_with_their_locks(home: Home) -> None:
    home.write(
        published(
            SystemLayer({"retention": {"days": 5}, "scoring": {"refuse_at": 7.0}}, locks=("scoring.refuse_at",)),
            AccountLayer("acc1", {"retention": {"days": 6}, "scoring": {"doubt_at": 2.0, "refuse_at": 9.0}}),
            domain(settings={"retention": {"days": 8}}),
        )
    )
    found = home.find()
    assert found.sections["retention"].days == 8
    assert (found.sections["scoring"].refuse_at, found.sections["scoring"].doubt_at) == (7.0, 2.0)
    assert found.sections["delivery"].keep_when_down is False
    assert (found.domain, found.account, found.next_hops) == ("a.test", "acc1", (HOP,))
    assert (found.generation, found.revision, found.locks) == (1, 1, ("scoring.refuse_at",))


@pytest.mark.parametrize(
    "changed",
    [
        SystemLayer({"retention": {"days": 9}}),
        AccountLayer("acc1", {"retention": {"days": 9}}),
        domain(settings={"retention": {"days": 9}}),
    ],
    ids=["system", "account", "domain"],
)
def test_a_change_of_any_layer_is_in_force_at_the_next_look(
    home: Home, changed: SystemLayer | AccountLayer | DomainLayer
) -> None:
    base = published(SystemLayer(), AccountLayer("acc1"), domain())
    home.write(base)
    before = home.find()
    home.write(base | published(changed))
    after = home.find()
    assert (before.sections["retention"].days, after.sections["retention"].days) == (31, 9)
    assert before.hash != after.hash
    home.write(base)
    assert home.find().hash == before.hash


def test_a_recipient_sets_its_own_but_for_what_is_locked(home: Home) -> None:
    layer = domain(recipients=RECIPIENTS, locks=("scoring",))
    home.write(published(layer, bodies=RECIPIENT_BODIES))
    found = home.find()
    bert, anna = found.for_recipient("Bert"), found.for_recipient("anna")
    assert bert.sections["retention"].days == 3
    assert bert.sections["scoring"].refuse_at == 10.0
    assert bert.hash != found.hash
    assert anna is found
    assert found.for_recipient("nobody") is found


@pytest.mark.parametrize(
    ("recipients", "local_part", "listed"),
    [(None, "anyone", None), (RECIPIENTS, "anna", True), (RECIPIENTS, "ANNA", True), (RECIPIENTS, "carl", False),
     (shards.Shards(), "anna", False)],
    ids=["any is taken", "listed", "whatever its case", "not listed", "an empty list"],
)  # fmt: skip
def test_recipients_are_looked_up(home: Home, recipients: Any, local_part: str, listed: bool | None) -> None:
    home.write(published(domain(recipients=recipients), bodies=RECIPIENT_BODIES))
    assert home.find().lists.listed(local_part) is listed


@pytest.mark.parametrize(
    ("layer", "key", "kind"),
    [
        ("domain", "friend@out.test", "allow"),
        ("domain", "192.0.2.0/24", "deny"),
        ("domain", "old.test", None),
        ("domain", "none.test", None),
        ("domain", "bad\tkey", None),
        ("account", "friend@out.test", None),
        ("system", "friend@out.test", "allow"),
    ],
)
def test_entries_are_looked_up_by_layer(home: Home, layer: Any, key: str, kind: str | None) -> None:
    home.write(published(SystemLayer(entries=ENTRIES), domain(entries=ENTRIES), bodies=ENTRY_BODIES))
    found = home.find().lists.entry(layer, key)
    assert (found.kind if found else None) == kind


def test_a_list_that_is_not_here_is_not_an_empty_one(home: Home) -> None:
    home.write(published(domain(entries=ENTRIES, recipients=RECIPIENTS)))
    lists = home.find().lists
    with pytest.raises(KeyError):
        lists.entry("domain", "friend@out.test")
    with pytest.raises(KeyError):
        lists.listed("anna")
    with pytest.raises(KeyError):
        home.find().for_recipient("anna")


def test_an_unknown_domain_is_absent_for_who_is_sure(home: Home) -> None:
    home.write(published(domain()))
    assert home.policies.find("b.test") == Absent()


@pytest.mark.parametrize(
    ("status", "here", "absent"),
    [
        ({"state": "stale"}, True, False),
        ({"state": "loading"}, True, False),
        ({"published": "f" * 32}, True, False),
        ({"heard_at": 0.0}, True, False),
        ({"boot": "before"}, True, False),
        ({"state": "unsynced", "complete": False}, False, False),
    ],
    ids=["stale", "loading", "differs", "follow died", "rebooted", "never whole"],
)
def test_who_is_not_sure_says_so(home: Home, status: dict[str, Any], here: bool, absent: bool) -> None:
    home.write(published(domain()), **status)
    if here:
        assert home.find().domain == "a.test"
    else:
        with pytest.raises(NotKnown):
            home.policies.find("a.test")
    with pytest.raises(NotKnown):
        home.policies.find("b.test")


def test_it_is_in_rotation_until_its_store_says_otherwise(home: Home) -> None:
    assert home.policies.in_rotation
    home.write(published(domain()))
    assert home.policies.in_rotation
    home.write(published(domain()), out="behind", out_until=monotonic() + 30)
    assert not home.policies.in_rotation
    assert home.find().domain == "a.test", "sessions that are open go on"


def test_before_any_store_is_there_nothing_is_known(home: Home) -> None:
    with pytest.raises(NotKnown):
        home.policies.find("a.test")
    assert not home.policies.is_remembered_unknown("a.test", "x")
    home.policies.remember_unknown("a.test", "x")


@pytest.mark.parametrize("key", [keys.domain("b.test"), keys.SYSTEM, keys.account("acc1")])
def test_what_was_never_readable_is_not_known(home: Home, key: str) -> None:
    home.write(published(domain()))
    home.note_unreadable(key)
    with pytest.raises(NotKnown, match="never readable"):
        home.policies.find("b.test" if "domain" in key else "a.test")


def test_settings_this_worker_cannot_read_are_not_known(home: Home) -> None:
    home.write(published(domain(settings={"from_a_newer_version": {"x": 1}})))
    with pytest.raises(NotKnown, match="from_a_newer_version"):
        home.policies.find("a.test")


def test_it_is_read_from_memory_then_memcached_then_resolved(home: Home) -> None:
    home.write(published(domain()))
    tiers = (("memory", "hit"), ("memcached", "hit"), ("lastgood", "hit"))

    def counted(find: Callable[[], Any]) -> tuple[float, ...]:
        before = [requests(*tier) for tier in tiers]
        find()
        return tuple(requests(*tier) - was for tier, was in zip(tiers, before, strict=True))

    assert counted(home.find) == (0, 0, 1)
    assert counted(home.find) == (1, 0, 0)
    home.policies.close()
    home.policies = Policies(home.node)
    assert counted(home.find) == (0, 1, 0)


@pytest.mark.parametrize("poison", ["junk", "another's"])
def test_a_poisoned_memcached_is_seen_through(home: Home, memcached: Memcached, poison: str) -> None:
    home.write(published(domain(), domain("b.test", {"retention": {"days": 2}})))
    names = [home.find(name).hash for name in ("a.test", "b.test")]
    raw = Client("unix:" + memcached.socket)
    value = b"junk" if poison == "junk" else raw.get("mxfleet:1:" + names[1])
    raw.set("mxfleet:1:" + names[0], value, noreply=False)
    home.policies.close()
    home.policies, before = Policies(home.node), requests("memcached", "junk")
    assert home.find().sections["retention"].days == 31
    assert requests("memcached", "junk") == before + 1


@pytest.mark.parametrize("fault", ["frozen", "killed"])
def test_without_an_answer_from_memcached_nothing_changes_but_time(
    home: Home, memcached: Memcached, fault: str
) -> None:
    names = [f"d{number}.test" for number in range(200)]
    home.write(published(*(domain(name) for name in names)))
    if fault == "frozen":
        memcached.send_signal(signal.SIGSTOP)
    else:
        memcached.kill()
    began = time.monotonic()
    assert [home.find(name).domain for name in names] == names
    assert time.monotonic() - began < 1.0
    home.policies.remember_unknown("d1.test", "x")
    assert not home.policies.is_remembered_unknown("d1.test", "x")


def test_memory_stays_bounded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mx.policy.REMEMBERED", 10)
    home.write(published(*(domain(f"d{number}.test") for number in range(50))))
    for number in range(50):
        home.find(f"d{number}.test")
    before = requests("memory", "hit")
    for number in range(40, 50):
        home.find(f"d{number}.test")
    assert requests("memory", "hit") == before + 10
    home.find("d1.test")
    assert requests("memory", "hit") == before + 10


def test_a_worker_knows_no_grpc() -> None:
    code = "import sys, mx.policy; sys.exit(bool({'grpc', 'google', 'quart'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
