"""The first session after a receipt obeys it, over SMTP, on every node, while a node's memcached is frozen.

OBEDIENCE=10000 makes that many changes. The workers of a node share its port, so each change is tried by several
sessions a node; the reading path worker by worker is `tests/syncd/test_obedience.py`.
"""

import os
import signal
import smtplib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.e2e.fleet import Fleet

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7_200)]
COUNT = int(os.environ.get("OBEDIENCE", "20"))
SESSIONS = 4
"""A node. Of two workers one is met by none of four in one change of eight: over a run both are met."""


def test_the_first_session_after_a_receipt_obeys_it(fleet: Fleet) -> None:
    domain = f"obey-{uuid.uuid4().hex[:8]}.test"
    fleet.add_domain(domain)
    for number in range(COUNT):
        listed = f"user{number}"
        with _frozen(fleet, number):
            answer = fleet.api.put(
                f"/domains/{domain}/recipients?wait=applied&timeout=20", json={"recipients": [listed]}
            )
            assert (answer.status_code, answer.json()["applied"]) == (200, True), answer.text
            for node in fleet.demo["smtp"]:
                for _ in range(SESSIONS):
                    codes = _asked(node, [f"{listed}@{domain}", f"user{number - 1}@{domain}"])
                    assert codes == [250, 550], f"change {number} at {node}"


def _asked(node: list[Any], recipients: list[str]) -> list[int]:
    """What one session answers to each of these recipients."""
    with smtplib.SMTP(node[0], node[1], "client.sender.test", 30, ("127.0.0.1", 0)) as client:
        client.ehlo()
        assert client.mail("ann@sender.test")[0] == 250
        return [client.rcpt(recipient)[0] for recipient in recipients]


@contextmanager
def _frozen(fleet: Fleet, number: int) -> Iterator[None]:
    """A node's memcached is frozen during every other change, now the one's, now the other's."""
    pid = fleet.demo["pids"][f"mx{1 + number // 2 % 2}.memcached"]
    if number % 2:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
