"""`make demo`: the main job on the running cluster, each step with its time; exit status 1 when one fails.

A word is added to a domain's settings; from then on every node refuses mail with it, in the session; the refused mail
is found in the quarantine, released, and arrives. All of it through the doors that everybody has: SMTP and the API.
"""

import smtplib
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from functools import partial
from typing import Any, TypeVar

from control.local import show
from control.local.api import Api, seeds
from control.local.layout import HOST, Layout, Unusable

CHANGES = 20
STEP_WITHIN_S = 10.0
LOOK_EVERY_S = 0.02

T = TypeVar("T")


class Failed(Exception):
    """A step did not do what it should; the text says what came instead."""


class Demo:
    """One tour; each step is told on one line."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        known = seeds(layout)
        self._domain, self._recipient = str(known["domain"]), str(known["recipient"])
        self._api = Api(layout, str(known["token"]))
        self._word = "zebra" + uuid.uuid4().hex[:8]
        self._step = 0

    def run(self) -> None:
        """The whole tour. Raises Failed or Unusable."""
        self._tell("a mail with the word is delivered", self._delivered)
        self._tell(f"the owner adds the word “{self._word}”: live on every node", self._add_word)
        for place in self._layout.nodes():
            self._tell(f"the next mail to {place.name} is refused", partial(self._refused, place.port("smtp")))
        item = self._tell("the refused mail is in the quarantine", self._found)
        self._tell("its bytes are those that were sent", lambda: self._whole(item))
        self._tell("released with one click", lambda: self._release(item))
        self._tell("and it is in the customer's mailbox", self._arrived)
        self._tell(f"{CHANGES} more changes, timed from commit to each node's receipt", self._many_changes)

    def _delivered(self) -> str:
        reply = self._send(self._layout.node(1).port("smtp"), "before")
        _expect(reply[0] == 250, f"answered {reply}")
        _soon(lambda: self._in_mailbox("before"), "the mail did not arrive")
        return f"{reply[0]} {reply[1]}"

    def _add_word(self) -> str:
        answer = self._set_words([self._word])
        nodes = answer["nodes"].items()
        return f"revision {answer['revision']}: " + ", ".join(f"{name} {node['ms']:.0f} ms" for name, node in nodes)

    def _refused(self, port: int) -> str:
        reply = self._send(port, "after")
        _expect(reply[0] == 550, f"answered {reply}")
        return f"{reply[0]} {reply[1]}"

    def _found(self) -> dict[str, Any]:
        path = f"/quarantine?q={self._word}"
        expected = len(self._layout.nodes())
        items = _soon(
            lambda: (found := self._api.call("GET", path)["items"]) and len(found) == expected and found,
            "the refused mails did not appear in the quarantine",
            within_s=STEP_WITHIN_S,
        )
        found: dict[str, Any] = items[0]
        return found

    def _whole(self, item: dict[str, Any]) -> str:
        detail = self._api.call("GET", f"/quarantine/{item['id']}")
        _expect(self._word in str(detail), "the item does not name the word that decided")
        return f"{item['size']} bytes, reason {item['reason']}, node {item['node']}"

    def _release(self, item: dict[str, Any]) -> str:
        job = self._api.call("POST", f"/quarantine/{item['id']}/release", {})["job"]
        state = _soon(
            lambda: (now := self._api.call("GET", f"/jobs/{job}"))["state"] in ("done", "failed", "unknown") and now,
            "the release did not end",
        )
        _expect(state["state"] == "done", f"the release ended as {state}")
        return str(state.get("outcome", ""))

    def _arrived(self) -> str:
        return str(_soon(lambda: self._in_mailbox("after"), "the released mail did not arrive"))

    def _many_changes(self) -> str:
        receipts = []
        for number in range(CHANGES):
            answer = self._set_words([self._word, f"{self._word}n{number}"])
            receipts += [float(node["ms"]) for node in answer["nodes"].values()]
        return f"median {statistics.median(receipts):.0f} ms, slowest {max(receipts):.0f} ms"

    def _set_words(self, words: list[str]) -> dict[str, Any]:
        path = f"/domains/{self._domain}/settings?wait=applied&timeout={STEP_WITHIN_S:.0f}"
        answer: dict[str, Any] = self._api.call("PATCH", path, {"content": {"mode": "on", "words": words}})
        _expect(answer["applied"], f"not applied within {STEP_WITHIN_S:.0f} s: {answer['nodes']}")
        return answer

    def _send(self, port: int, mark: str) -> tuple[int, str]:
        mail = EmailMessage()
        mail["From"], mail["To"] = "Ann <ann@sender.test>", self._recipient
        mail["Subject"] = f"About the {self._word}"
        mail["X-Demo"] = f"{self._word}-{mark}"
        mail.set_content("Hello, just a mail of the demo.")
        with smtplib.SMTP(HOST, port, "client.sender.test", STEP_WITHIN_S) as client:
            client.ehlo()
            client.mail("ann@sender.test")
            client.rcpt(self._recipient)
            code, text = client.data(mail.as_bytes(policy=SMTP))
        return code, text.decode(errors="replace")

    def _in_mailbox(self, mark: str) -> str:
        """Path of the mail with this mark, "" while it is not there."""
        wanted = f"X-Demo: {self._word}-{mark}".encode()
        for path in (self._layout.var / "mailbox" / "new").iterdir():
            if wanted in path.read_bytes():
                return str(path)
        return ""

    def _tell(self, what: str, act: Callable[[], T]) -> T:
        self._step += 1
        began = time.monotonic()
        try:
            came = act()
        except (Failed, Unusable, OSError, smtplib.SMTPException):
            show.console.print(f"[red]✗ {self._step}. {what}[/]")
            raise
        passed_ms = (time.monotonic() - began) * 1000
        show.console.print(f"[green]✓[/] {self._step}. {what} [bold]{passed_ms:.0f} ms[/]")
        if isinstance(came, str):
            show.console.print(f"     {came}", style="dim", markup=False)
        elif isinstance(came, dict):
            show.console.print(f"     {came['subject']}: {self._layout.panel_url}/quarantine/{came['id']}", style="dim")
        return came


def main() -> int:
    """Give the tour."""
    try:
        Demo(Layout.from_environment()).run()
    except (Failed, Unusable, OSError, smtplib.SMTPException) as error:
        show.failed("the demo", error)
        return 1
    show.console.print("[bold green]The main job works.[/]")
    return 0


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


def _soon(look: Callable[[], Any], otherwise: str, *, within_s: float = STEP_WITHIN_S) -> Any:
    """The first true value of `look`. Raises Failed when none comes in time."""
    deadline = time.monotonic() + within_s
    while not (found := look()):
        if time.monotonic() > deadline:
            raise Failed(f"{otherwise} within {within_s:.0f} s")
        time.sleep(LOOK_EVERY_S)
    return found


if __name__ == "__main__":
    sys.exit(main())
