"""What the end-to-end tests do to a running cluster, as its users would: SMTP, the API, the mailbox's files."""

import json
import smtplib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

import httpx

PATIENCE_S = 20.0
"""How long a test waits for what should take a second: the machine may be busy with other tests."""


def eventually(check: Callable[[], Any], what: str, *, within_s: float = PATIENCE_S) -> Any:
    """The first true value of `check`; fails naming `what` when none comes in time."""
    deadline = time.monotonic() + within_s
    while True:
        if value := check():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within_s:.0f} s for {what}")
        time.sleep(0.05)


@dataclass(frozen=True)
class Reply:
    """What the server said last; code 0 when it said nothing (connection cut)."""

    code: int
    text: str
    after_dot: bool = False
    """The connection broke after the final dot: the mail may have been taken."""


class Fleet:
    """A cluster seen from outside through its `demo.json`, read again at each use because pids change."""

    def __init__(self, demo_json: Path) -> None:
        self.path = demo_json
        self.api = httpx.Client(
            base_url=self.demo["panel"].rstrip("/") + "/api/v1",
            headers={"Authorization": f"Bearer {self.demo['token']}"},
            timeout=30,
        )
        self.operator = httpx.Client(
            base_url=self.api.base_url, headers={"Authorization": f"Bearer {self.demo['operator_token']}"}, timeout=30
        )

    @property
    def demo(self) -> dict[str, Any]:
        """The present `demo.json`."""
        demo: dict[str, Any] = json.loads(self.path.read_text())
        return demo

    def close(self) -> None:
        """Close the HTTP clients."""
        self.api.close()
        self.operator.close()

    def settings(self, domain: str, patch: dict[str, Any]) -> dict[str, Any]:
        """Change a domain's settings and wait until every member node has applied them."""
        answer = self.api.patch(f"/domains/{domain}/settings?wait=applied&timeout=20", json=patch)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        assert body["applied"], body
        return body

    def add_domain(self, name: str) -> None:
        """A further domain of the demo's customer, with the demo's mailbox as its next hop, live on every node."""
        host, port = self.demo["nexthop"]
        owner = self.api.get(f"/domains/{self.demo['domain']}").json()
        body = {"name": name, "next_hops": [{"host": host, "port": port, "tls": "opportunistic"}]}
        answer = self.operator.post("/domains", json={**body, "account": owner["account"]})
        assert answer.status_code in (201, 409), answer.text
        self.settings(name, {})

    def quarantined(self, **query: Any) -> list[dict[str, Any]]:
        """Every quarantine item that matches, over all pages."""
        items: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = self.api.get("/quarantine", params={**query, "limit": 200, **({"cursor": cursor} if cursor else {})})
            assert page.status_code == 200, page.text
            items += page.json()["items"]
            cursor = page.json()["next"]
            if not cursor:
                return items

    def raw(self, item_id: str) -> bytes:
        """The exact bytes of a quarantined mail."""
        answer = self.api.get(f"/quarantine/{item_id}/raw")
        assert answer.status_code == 200, answer.text
        return answer.content

    def release(self, item_id: str, **options: bool) -> dict[str, Any]:
        """Release an item and wait for the end of its job."""
        answer = self.api.post(f"/quarantine/{item_id}/release", json=options)
        assert answer.status_code == 202, answer.text
        job = answer.json()["job"]

        def ended() -> dict[str, Any] | None:
            state: dict[str, Any] = self.api.get(f"/jobs/{job}").json()
            return state if state["state"] in ("done", "failed", "unknown") else None

        done: dict[str, Any] = eventually(ended, f"job {job} to end")
        return done

    def delivered(self) -> list[bytes]:
        """Every mail in the customer's mailbox, as delivered."""
        maildir = Path(self.demo["nexthop_maildir"])
        return [path.read_bytes() for part in ("new", "cur") for path in (maildir / part).iterdir()]

    def delivered_with(self, header: str) -> dict[str, list[bytes]]:
        """Delivered mails by the value of one header field; mails without it are left out."""
        found: dict[str, list[bytes]] = {}
        for mail in self.delivered():
            value = header_of(mail, header)
            if value:
                found.setdefault(value, []).append(mail)
        return found

    def metric(self, process: str, name: str) -> float:
        """Sum of a metric's samples as the process exports it now."""
        text = httpx.get(self.demo["metrics"][process], timeout=10).text
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.split("{")[0].split(" ")[0] == name and not line.startswith("#")
        )


def header_of(mail: bytes, name: str) -> str:
    """The first value of a header field, "" when it is not there."""
    value = BytesHeaderParser().parsebytes(mail.split(b"\r\n\r\n", 1)[0] + b"\r\n\r\n").get(name)
    return str(value) if value else ""


def mail_bytes(subject: str, body: str, *, sender: str = "ann@sender.test", fields: Iterable[str] = ()) -> bytes:
    """A small well-formed mail with CRLF line ends."""
    head = [
        f"From: Ann <{sender}>",
        "To: you@example.test",
        f"Subject: {subject}",
        "Date: Tue, 24 Nov 2026 10:00:00 +0000",
        f"Message-ID: <{abs(hash((subject, body)))}@sender.test>",
        *fields,
    ]
    return "\r\n".join([*head, "", body, ""]).encode()


def send(
    address: tuple[str, int] | list[Any],
    mail: bytes,
    *,
    sender: str = "ann@sender.test",
    to: Iterable[str],
    source: str = "127.0.0.1",
    helo: str = "client.sender.test",
    timeout_s: float = 60,
) -> Reply:
    """One mail through a standard SMTP client; the reply that decided it."""
    sent_dot = False
    try:
        with smtplib.SMTP(address[0], address[1], helo, timeout_s, (source, 0)) as client:
            client.ehlo()
            options = ["BODY=8BITMIME"] if client.has_extn("8bitmime") else []
            code, text = client.mail(sender, options)
            for recipient in to if code == 250 else ():
                answer = client.rcpt(recipient)
                if answer[0] != 250:
                    code, text = answer
            if code == 250:
                sent_dot = True
                code, text = client.data(mail)
                sent_dot = False
            return Reply(code, text.decode("ascii", "replace"))
    except smtplib.SMTPResponseException as error:
        return Reply(error.smtp_code if error.smtp_code > 0 else 0, str(error.smtp_error), sent_dot)
    except (smtplib.SMTPException, OSError) as error:
        return Reply(0, str(error), sent_dot)
