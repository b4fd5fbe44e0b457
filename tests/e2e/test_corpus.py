"""Real ham and spam through both nodes: every single recipient is accounted for, byte for byte."""

import io
import random
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet, Reply, eventually, header_of, send
from tests.shared import shared_path

pytestmark = [pytest.mark.cluster, pytest.mark.shared, pytest.mark.timeout(600)]

MAILS = 360
SEED = 20261124
OPEN_DOMAIN = "open.test"
LISTED_CLIENT = "127.0.0.99"

SETTINGS = {
    "content": {"mode": "on", "words": ["viagra", "click here", "unsubscribe", "guarantee", "money"]},
    "size": {"mode": "on", "max_bytes": 12_000},
    "dnsbl": {"mode": "on", "zones": [{"zone": "dnsbl.test", "action": "refuse"}]},
    "gtube": {"mode": "on"},
}
DENIED_SENDER = "denied.sender.test"
REFUSED = (550, 552)
"""552 is the size filter's."""


@dataclass(frozen=True)
class Sent:
    """One mail of the corpus as it was sent."""

    number: int
    data: bytes
    to: tuple[str, ...]
    reply: Reply
    broken: bool


def _corpus(name: str) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(Path(shared_path(f"corpus/{name}.tar.xz")).read_bytes())) as archive:
        members = sorted((m for m in archive.getmembers() if m.isfile()), key=lambda member: member.name)
        return [file.read() for member in members if (file := archive.extractfile(member))]


def _prepare(number: int, mail: bytes) -> bytes:
    body = mail.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if body.startswith(b"From "):
        body = body.split(b"\r\n", 1)[1]
    return f"X-Corpus: {number}\r\n".encode() + (body if body.endswith(b"\r\n") else body + b"\r\n")


def _is_broken(data: bytes) -> bool:
    return b"\0" in data or data.count(b"\r") != data.count(b"\r\n")


@pytest.fixture(scope="module")
def sent(running_fleet: Fleet) -> list[Sent]:
    chooser = random.Random(SEED)
    mails = chooser.sample(_corpus("ham"), MAILS // 2) + chooser.sample(_corpus("spam"), MAILS // 2)
    chooser.shuffle(mails)
    recipient = running_fleet.demo["recipient"]
    running_fleet.add_domain(OPEN_DOMAIN)
    entry = {"kind": "deny", "match": DENIED_SENDER, "note": "for the corpus"}
    assert running_fleet.api.post(f"/domains/{running_fleet.demo['domain']}/lists", json=entry).status_code in (
        201,
        409,
    )
    running_fleet.settings(running_fleet.demo["domain"], {**SETTINGS, "sender_list": {"mode": "on"}})
    result = []
    for number, mail in enumerate(mails):
        data = _prepare(number, mail)
        to = (recipient, f"u{number}@{OPEN_DOMAIN}") if number % 5 == 0 else (recipient,)
        reply = send(
            running_fleet.demo["smtp"][number % 2],
            data,
            to=to,
            sender=f"bulk@{DENIED_SENDER}" if number % 11 == 0 else "ann@sender.test",
            source=LISTED_CLIENT if number % 13 == 0 else "127.0.0.1",
        )
        result.append(Sent(number, data, to, reply, _is_broken(data)))
    return result


def _kept(fleet: Fleet) -> dict[tuple[int, str], list[dict[str, object]]]:
    """Quarantine items of the corpus by (number, recipient)."""
    found: dict[tuple[int, str], list[dict[str, object]]] = {}
    for item in fleet.quarantined(domain=fleet.demo["domain"]):
        number = header_of(fleet.raw(str(item["id"])), "X-Corpus")
        if number:
            found.setdefault((int(number), str(item["recipient"])), []).append(item)
    return found


def _expected_kept(sent: list[Sent]) -> set[int]:
    return {mail.number for mail in sent if not mail.broken and mail.reply.code in REFUSED}


def test_every_recipient_is_accounted_for(fleet: Fleet, sent: list[Sent]) -> None:
    whole = [mail for mail in sent if not mail.broken]
    assert len(whole) >= 300
    wrong = [(mail.number, mail.reply) for mail in whole if mail.reply.code not in (250, *REFUSED)]
    assert not wrong
    eventually(
        lambda: _expected_kept(sent) <= {number for number, _ in _kept(fleet)}, "all refused mail in the quarantine"
    )
    kept, delivered = _kept(fleet), fleet.delivered_with("X-Corpus")
    for mail in whole:
        boxes = delivered.get(str(mail.number), [])
        for recipient in mail.to:
            items = kept.get((mail.number, recipient), [])
            arrived = [
                box
                for box in boxes
                if f"<{recipient}>".encode() in box or recipient.encode() in box.split(b"X-Corpus:")[0]
            ]
            assert len(items) + len(arrived) == 1, (mail.number, recipient, items, len(boxes), mail.reply)
            for item in items:
                assert fleet.raw(str(item["id"])) == mail.data, mail.number
            for box in arrived:
                assert box.endswith(mail.data), f"mail {mail.number} was changed on its way"
        if mail.reply.code in REFUSED:
            assert not boxes, "a refused mail was delivered too"


def test_at_least_a_third_is_refused_by_at_least_four_filters(fleet: Fleet, sent: list[Sent]) -> None:
    reasons = Counter(str(item["reason"]) for items in _kept(fleet).values() for item in items)
    print(dict(reasons))
    assert sum(reasons.values()) >= len(sent) / 3
    assert len(reasons) >= 4, reasons


def test_broken_mails_are_counted_apart_and_refused_cleanly(sent: list[Sent]) -> None:
    broken = [mail for mail in sent if mail.broken]
    print(f"{len(broken)} mails with bare CR or NUL: {Counter(mail.reply.code for mail in broken)}")
    assert all(mail.reply.code in (250, *REFUSED) for mail in broken)


def test_released_mails_arrive_byte_for_byte(fleet: Fleet, sent: list[Sent]) -> None:
    by_number = {mail.number: mail for mail in sent}
    chosen = random.Random(SEED).sample(sorted(_kept(fleet).items(), key=lambda pair: pair[0]), 20)
    for (number, _), items in chosen:
        before = len(fleet.delivered_with("X-Corpus").get(str(number), []))
        assert fleet.release(str(items[0]["id"]))["state"] == "done"
        boxes = fleet.delivered_with("X-Corpus")[str(number)]
        assert len(boxes) == before + 1
        assert all(box.endswith(by_number[number].data) for box in boxes)
