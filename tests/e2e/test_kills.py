"""Every process may be killed at any moment: it comes back; no mail is lost, doubled or falsely refused."""

import os
import random
import re
import signal
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e.fleet import Fleet, Reply, eventually, header_of, mail_bytes, send

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

BACK_WITHIN_S = 10.0
MAILS = 500
KILLS = 10
SEED = int(os.environ.get("KILL_SEED", "20261124"))
LIVES_OF_ITS_OWN = {"supervisor"}
"""Nobody restarts the supervisor: a second `make up` does."""


def _processes(fleet: Fleet) -> list[str]:
    return sorted(set(fleet.demo["pids"]) - LIVES_OF_ITS_OWN)


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def _ready(fleet: Fleet, process: str) -> bool:
    url = fleet.demo["metrics"].get(process)
    if url is None:
        return True
    try:
        return httpx.get(url.rsplit("/", 1)[0] + "/ready", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _back(fleet: Fleet, process: str, old_pid: int) -> bool:
    pid = fleet.demo["pids"].get(process, old_pid)
    return pid != old_pid and _alive(pid) and _ready(fleet, process)


def test_every_process_comes_back_by_itself(fleet: Fleet) -> None:
    late = {}
    for process in _processes(fleet):
        pid = fleet.demo["pids"][process]
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        eventually(lambda process=process, pid=pid: _back(fleet, process, pid), f"{process} to be back", within_s=60)
        took_s = time.monotonic() - began
        print(f"{process}: back after {took_s:.1f} s")
        if took_s > BACK_WITHIN_S:
            late[process] = round(took_s, 1)
    assert not late
    reply = _insist(fleet, 0, mail_bytes("after the kills", "x"), fleet.demo["recipient"])[-1]
    assert reply.code == 250


def _insist(fleet: Fleet, node: int, mail: bytes, recipient: str) -> list[Reply]:
    """Send as a real client does: again after a temporary answer or none, to the other node in turn."""
    replies: list[Reply] = []
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        address = fleet.demo["smtp"][(node + len(replies)) % 2]
        replies.append(send(address, mail, to=[recipient], timeout_s=30))
        if replies[-1].code == 250 or replies[-1].code >= 500:
            return replies
        time.sleep(0.2)
    return replies


def _kill_at_random(fleet: Fleet, stop: threading.Event, killed: list[str]) -> None:
    chooser = random.Random(SEED)
    for process in chooser.choices(_processes(fleet), k=KILLS):
        if stop.wait(chooser.uniform(0.5, 2.0)):
            return
        pid = fleet.demo["pids"][process]
        os.kill(pid, signal.SIGKILL)
        killed.append(process)
        eventually(lambda process=process, pid=pid: _back(fleet, process, pid), f"{process} to be back", within_s=60)


def test_ten_random_kills_lose_double_and_falsely_refuse_nothing(fleet: Fleet) -> None:
    recipient, word = fleet.demo["recipient"], "zk" + uuid.uuid4().hex[:12]
    fleet.settings(fleet.demo["domain"], {"content": {"mode": "on", "words": [word]}})
    mails = {
        f"{word}-{n}": mail_bytes(f"{word if n % 2 else 'wanted'} number {n}", "text", fields=[f"X-Kill: {word}-{n}"])
        for n in range(MAILS)
    }
    stop, killed = threading.Event(), list[str]()
    killer = threading.Thread(target=_kill_at_random, args=(fleet, stop, killed))
    killer.start()
    replies: dict[str, list[Reply]] = {}
    with ThreadPoolExecutor(8) as pool:
        pace = iter(range(10**9))

        def one(mark: str) -> None:
            while killer.is_alive() and next(pace) % 4 == 0 and not stop.wait(0.05):
                pass
            replies[mark] = _insist(fleet, hash(mark) % 2, mails[mark], recipient)

        list(pool.map(one, mails))
    killer.join()
    stop.set()
    print(f"seed {SEED}, killed {killed}, attempts {Counter(len(r) for r in replies.values())}")
    assert len(killed) == KILLS
    for number, mark in enumerate(mails):
        expected = 550 if number % 2 else 250
        assert replies[mark][-1].code == expected, (mark, replies[mark])
        assert all(reply.code < 500 for reply in replies[mark][:-1])
    _check_wanted(fleet, {mark: replies[mark] for n, mark in enumerate(mails) if n % 2 == 0})
    _check_refused(fleet, word, {mark: replies[mark] for n, mark in enumerate(mails) if n % 2})


def _check_wanted(fleet: Fleet, replies: dict[str, list[Reply]]) -> None:
    boxes = fleet.delivered_with("X-Kill")
    transactions = Counter()
    for mark, attempts in replies.items():
        copies = boxes.get(mark, [])
        assert copies, f"{mark} was answered 250 and is nowhere"
        assert len(copies) <= len(attempts), f"{mark} was delivered more often than it was sent"
        transactions.update(_transaction(copy) for copy in copies)
    assert max(transactions.values()) == 1, "one transaction was delivered twice"


def _transaction(mail: bytes) -> str:
    found = re.search(r"\bid ([0-9A-HJKMNP-TV-Z]{26})\b", header_of(mail, "Received"))
    assert found, mail[:300]
    return found[1]


def _check_refused(fleet: Fleet, word: str, replies: dict[str, list[Reply]]) -> None:
    def kept() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for item in fleet.quarantined(q=word):
            found.setdefault(str(item["subject"]).rsplit(" ", 1)[1], []).append(str(item["id"]))
        return found

    wanted = {mark.rsplit("-", 1)[1] for mark in replies}
    eventually(lambda: wanted <= set(kept()), "all refused mails in the quarantine", within_s=60)
    ids = [item for items in kept().values() for item in items]
    assert len(ids) == len(set(ids)), "one transaction was kept twice"
    for mark, attempts in replies.items():
        assert len(kept_of := kept()[mark.rsplit("-", 1)[1]]) <= len(attempts), (mark, kept_of)
