"""The demo's data, brought in through the front doors: domains by the API, mail by SMTP through the nodes."""

import json
import smtplib
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from control.local import show
from control.local.api import Api
from control.local.correspondence import DENIED_DOMAIN, WORDS, Letter, letters
from control.local.layout import HOST, Layout, Unusable

DOMAIN = "example.test"
SHOP = "shop.test"
LETTERS = 500
AT_ONCE = 4
CHUNK = 50
"""Progress is kept after so many mails: an interrupted `make up` goes on from there."""
SEND_WITHIN_S = 60.0

SHOP_SETTINGS = {
    "content": {"mode": "on", "words": list(WORDS)},
    "attachments": {"mode": "on"},
    "gtube": {"mode": "on"},
    "spf": {"mode": "on"},
    "dnsbl": {"mode": "on", "zones": [{"zone": "dnsbl.test", "action": "refuse"}]},
    "sender_list": {"mode": "on"},
}


def run(layout: Layout, operator: Api, account: str) -> None:
    """Have both demo domains, and the shop's mail sent; what is there already is left alone."""
    for domain, settings in ((DOMAIN, {}), (SHOP, SHOP_SETTINGS)):
        _have_domain(layout, operator, account, domain, settings)
    _send_letters(layout, operator)


def _have_domain(layout: Layout, operator: Api, account: str, domain: str, settings: dict[str, Any]) -> None:
    hop = {"host": HOST, "port": layout.port("mailbox"), "tls": "opportunistic"}
    made = operator.call("POST", "/domains", {"name": domain, "account": account, "next_hops": [hop]}, accept=(409,))
    if made is not None and domain == SHOP:
        entry = {"kind": "deny", "match": DENIED_DOMAIN, "note": "never asked for"}
        operator.call("POST", f"/domains/{domain}/lists", entry)
    if made is not None:
        answer = operator.call("PATCH", f"/domains/{domain}/settings?wait=applied&timeout=20", settings)
        if not answer["applied"]:
            raise Unusable(f"{domain}: its settings did not reach every node within 20 s: {answer['nodes']}")


def _send_letters(layout: Layout, operator: Api) -> None:
    marker = layout.var / "letters-sent"
    sent = int(marker.read_text()) if marker.exists() else 0
    if sent >= LETTERS:
        return
    began, answers = time.monotonic(), Counter[int]()
    whole = list(letters(SHOP, LETTERS))
    for start in range(sent, LETTERS, CHUNK):
        answers += _send(layout, whole[start : start + CHUNK])
        marker.write_text(str(min(start + CHUNK, LETTERS)))
    kept = operator.call("GET", f"/quarantine?domain={SHOP}&limit=1")["items"]
    show.done(f"{SHOP}: {answers[250]} mails delivered, {answers[550]} refused", began)
    if not kept or answers[250] + answers[550] != sum(answers.values()):
        raise Unusable(f"the demo's mail was answered {json.dumps(answers)}; the quarantine shows {len(kept)}")


def _send(layout: Layout, batch: Sequence[Letter]) -> Counter[int]:
    """Send a batch over several connections, to the nodes in turn; counts the reply codes."""
    nodes = layout.nodes()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ports = [nodes[number % len(nodes)].port("smtp") for number in range(len(batch))]
        return Counter(pool.map(_send_one, batch, ports))


def _send_one(letter: Letter, port: int) -> int:
    helo = f"mail.{letter.sender.partition('@')[2]}"
    with smtplib.SMTP(HOST, port, helo, SEND_WITHIN_S, (letter.client, 0)) as client:
        try:
            client.sendmail(letter.sender, [letter.recipient], letter.content, ["BODY=8BITMIME"])
        except smtplib.SMTPResponseException as error:
            return error.smtp_code
        except smtplib.SMTPRecipientsRefused as error:
            return error.recipients[letter.recipient][0]
    return 250
