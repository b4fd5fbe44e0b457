"""Each part may be away: mail flows by the last known settings (promise 7), and a miss is never a no (promise 3)."""

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.fleet import Fleet, eventually, mail_bytes, send

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@contextmanager
def frozen(fleet: Fleet, *processes: str) -> Iterator[None]:
    """Stop processes as a hang does: sockets stay open, nobody answers; the supervisor sees nothing."""
    pids = [fleet.demo["pids"][process] for process in processes]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def listed_word(fleet: Fleet) -> str:
    word = "za" + uuid.uuid4().hex[:12]
    fleet.settings(fleet.demo["domain"], {"content": {"mode": "on", "words": [word]}})
    return word


def _both_flow(fleet: Fleet, word: str, mark: str) -> None:
    """On each node a wanted mail is delivered and a refused one kept."""
    recipient = fleet.demo["recipient"]
    for number, address in enumerate(fleet.demo["smtp"][:2]):
        tag = f"{mark}{number}{uuid.uuid4().hex[:6]}"
        assert send(address, mail_bytes("wanted", "x", fields=[f"X-Away: {tag}"]), to=[recipient]).code == 250
        eventually(lambda tag=tag: tag in fleet.delivered_with("X-Away"), f"{tag} delivered")
        assert send(address, mail_bytes(f"{word} {tag}", "x"), to=[recipient]).code == 550


AWAY = {
    "memcached": ("mx1.memcached", "mx2.memcached"),
    "etcd": ("etcd",),
    "publisher": ("publisher",),
    "panel": ("panel",),
    "follow": ("mx1.follow", "mx2.follow"),
    "receiver": ("receiver",),
    "janitor": ("janitor",),
}


@pytest.mark.parametrize("part", AWAY)
def test_mail_flows_while_a_part_is_frozen(fleet: Fleet, listed_word: str, part: str) -> None:
    with frozen(fleet, *AWAY[part]):
        _both_flow(fleet, listed_word, part)
    eventually(
        lambda: len(fleet.quarantined(q=listed_word)) == 2, "what was refused meanwhile in the quarantine", within_s=30
    )


def test_mail_flows_while_postgresql_is_killed_again_and_again(fleet: Fleet, listed_word: str) -> None:
    for _ in range(3):
        os.kill(fleet.demo["pids"]["postgres"], signal.SIGKILL)
        _both_flow(fleet, listed_word, "pg")
    eventually(lambda: _count(fleet, listed_word) == 6, "what was refused meanwhile in the quarantine", within_s=60)


def _count(fleet: Fleet, word: str) -> int:
    """How many are found; -1 while the API says that it cannot look."""
    answer = fleet.api.get("/quarantine", params={"q": word})
    assert answer.status_code in (200, 503), answer.text
    return len(answer.json()["items"]) if answer.status_code == 200 else -1


def test_a_change_made_while_etcd_is_away_is_named_as_awaited_and_arrives(fleet: Fleet) -> None:
    domain, word = fleet.demo["domain"], "zb" + uuid.uuid4().hex[:12]
    with frozen(fleet, "etcd"):
        answer = fleet.api.patch(
            f"/domains/{domain}/settings?wait=applied&timeout=1", json={"content": {"mode": "on", "words": [word]}}
        )
        assert (answer.status_code, answer.json()["applied"]) == (202, False), answer.text
        assert set(answer.json()["nodes"]) == {"mx1", "mx2"}
    fleet.settings(domain, {"content": {"mode": "on", "words": [word, word + "b"]}})
    assert send(fleet.demo["smtp"][0], mail_bytes(word, "x"), to=[fleet.demo["recipient"]]).code == 550


def test_a_next_hop_that_is_down_defers_and_never_refuses(fleet: Fleet) -> None:
    with frozen(fleet, "mailbox"):
        reply = send(fleet.demo["smtp"][0], mail_bytes("x", "x"), to=[fleet.demo["recipient"]], timeout_s=130)
    assert 400 <= reply.code < 500, reply
