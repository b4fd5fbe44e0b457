"""The mail of the demo's shop: what customers, suppliers and spammers would write, the same 500 mails each time.

Everything is invented and drawn with a fixed seed; addresses lie under .test (RFC 2606). Each mail names the client
address it comes from, because some of the shop's filters go by that.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

SEED = 20080615
MAILBOXES = ("orders", "info", "service", "anna.keller", "tom.brandt", "returns")
BAD_CLIENT = "127.0.0.99"
"""The client that the demo's DNS list names."""
DENIED_DOMAIN = "bulk-offers.test"
WORDS = ("casino bonus", "miracle pills", "double your bitcoin", "work from home", "cheap replica")
"""What the shop does not want to read."""
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""The standard test spam (SpamAssassin's sample-spam.txt)."""


@dataclass(frozen=True)
class Letter:
    """One mail on its way: envelope, client, content."""

    sender: str
    recipient: str
    client: str
    content: bytes


@dataclass(frozen=True)
class _Draft:
    name: str
    sender: str
    subject: str
    body: str
    attachment: tuple[str, bytes] | None = None
    client: str = ""


_FIRST = ("Mia", "Jonas", "Lena", "Paul", "Clara", "Emil", "Sofia", "Noah", "Ida", "Felix", "Greta", "Oskar")
_LAST = ("Berger", "Lindt", "Okafor", "Novak", "Marchetti", "Sørensen", "Vogel", "Haddad", "Petrov", "Quinn", "Weiß")
_GOODS = ("rain jacket", "trekking boots", "camping stove", "head lamp", "sleeping bag", "day pack", "water filter")
_COLOURS = ("blue", "green", "black", "sand", "red")
_FAULTS = ("too small", "torn at the seam", "the wrong colour", "not what I ordered")
_TOPICS = ("stocktaking", "the spring catalogue", "Friday's delivery", "the fair in May", "new price tags")
_HONEST = ("honest.test", "partner.test", "mail.honest.test", "uni.test", "city.test")
_JUNK = ("best-deals.test", "winner-club.test", "fast-cash.test", "pharma24.test")


def letters(domain: str, count: int) -> Iterator[Letter]:
    """The first `count` mails to `domain`, in their order: about three of five are wanted."""
    chance = random.Random(SEED)
    kinds, weights = zip(*_KINDS, strict=True)
    for number in range(count):
        draft = chance.choices(kinds, weights)[0](chance)
        recipient = f"{chance.choice(MAILBOXES)}@{domain}"
        client = draft.client or f"127.0.0.{chance.randint(10, 60)}"
        yield Letter(draft.sender, recipient, client, _compose(draft, recipient, number))


def _compose(draft: _Draft, recipient: str, number: int) -> bytes:
    mail = EmailMessage()
    mail["From"] = f"{draft.name} <{draft.sender}>"
    mail["To"] = recipient
    mail["Subject"] = draft.subject
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = f"<demo.{number}.{SEED}@{draft.sender.partition('@')[2]}>"
    mail.set_content(draft.body)
    if draft.attachment:
        name, content = draft.attachment
        mail.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return mail.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _person(chance: random.Random, domain: str) -> tuple[str, str]:
    first, last = chance.choice(_FIRST), chance.choice(_LAST)
    return f"{first} {last}", f"{first}.{last}@{domain}".lower().replace("ø", "oe").replace("ß", "ss")


def _order(chance: random.Random) -> _Draft:
    name, sender = _person(chance, chance.choice(_HONEST))
    goods, number = chance.choice(_GOODS), chance.randint(10400, 19999)
    subject = chance.choice([f"Order {number}: {goods}", f"Your order confirmation {number}", f"Question on {number}"])
    body = (
        f"Hello,\n\nI ordered the {goods} in {chance.choice(_COLOURS)}, size {chance.randint(36, 47)}.\n"
        f"Could you tell me when it ships? I need it by the {chance.randint(2, 28)}th.\n\nThanks\n{name}\n"
    )
    return _Draft(name, sender, subject, body)


def _return(chance: random.Random) -> _Draft:
    name, sender = _person(chance, chance.choice(_HONEST))
    goods = chance.choice(_GOODS)
    subject = chance.choice([f"Return of the {goods}", f"{goods.capitalize()} does not fit", f"Refund for {goods}?"])
    body = f"Good day,\n\nthe {goods} is {chance.choice(_FAULTS)}.\n{name}\n"
    return _Draft(name, sender, subject, body)


def _supplier(chance: random.Random) -> _Draft:
    name, sender = _person(chance, "partner.test")
    number, amount = chance.randint(2000, 2999), chance.randint(12000, 980000) / 100
    body = f"Dear team,\n\nenclosed invoice {number} over {amount:.2f} EUR, due in 30 days.\n\n{name}\n"
    pdf = b"%PDF-1.4\n% invoice " + str(number).encode() + b"\n%%EOF\n"
    return _Draft(name, sender, f"Invoice {number}", body, (f"invoice-{number}.pdf", pdf))


def _colleague(chance: random.Random) -> _Draft:
    name, sender = _person(chance, "honest.test")
    topic = chance.choice(_TOPICS)
    day = chance.choice(["Monday", "Tuesday", "Thursday"])
    subject = chance.choice([f"Re: {topic}", f"{topic.capitalize()}?", f"Notes on {topic}"])
    return _Draft(name, sender, subject, f"Hi,\n\nshall we talk about {topic} on {day}?\n\nCheers, {name}\n")


def _by_words(chance: random.Random) -> _Draft:
    word = chance.choice(WORDS)
    name, sender = _person(chance, chance.choice(_JUNK))
    subject = chance.choice(
        [f"{word.capitalize()} - today only", f"You are selected: {word}", f"RE: {word} for you", f"{name}, {word}!!!"]
    )
    body = f"Dear friend,\n\n{word.upper()} waits: {chance.randint(50, 900)} EUR at once, no questions.\nReply now!\n"
    return _Draft(name, sender, subject, body)


def _forged_bank(chance: random.Random) -> _Draft:
    subject = chance.choice(["Your account is locked", "Unusual sign-in", "Confirm your transfer"])
    body = f"Dear customer,\n\ncase {chance.randint(100000, 999999)}: confirm your details within a day.\n\nYour bank\n"
    return _Draft("Security Team", f"security{chance.randint(1, 40)}@bank.test", subject, body)


def _listed_client(chance: random.Random) -> _Draft:
    name, sender = _person(chance, chance.choice(_JUNK))
    subject = chance.choice(["Loan approved", "Hot singles near you", "Parcel held at customs", "Last reminder"])
    return _Draft(name, sender, f"{subject} #{chance.randint(100, 999)}", "Open the link below.\n", None, BAD_CLIENT)


def _denied_sender(chance: random.Random) -> _Draft:
    goods = chance.choice(_GOODS)
    body = f"This week only: {chance.randint(30, 70)} % off every {goods}.\nUnsubscribe by reply.\n"
    subject = f"{goods.capitalize()} sale, {chance.randint(30, 70)} % off"
    return _Draft("Bulk Offers", f"news{chance.randint(1, 9)}@{DENIED_DOMAIN}", subject, body)


def _dangerous_attachment(chance: random.Random) -> _Draft:
    name, sender = _person(chance, chance.choice(_JUNK))
    file = chance.choice(["invoice.pdf.exe", "scan_0421.scr", "order.js", "photo.jpg.bat", "remittance.vbs"])
    body = "Please see the attached document and confirm.\n"
    return _Draft(name, sender, f"Document {chance.randint(1000, 9999)}", body, (file, b"MZ" + bytes(200)))


def _test_spam(chance: random.Random) -> _Draft:
    name, sender = _person(chance, "uni.test")
    return _Draft(name, sender, f"Filter test {chance.randint(1, 99)}", f"Does your filter see this?\n\n{GTUBE}\n")


_KINDS: tuple[tuple[Callable[[random.Random], _Draft], int], ...] = (
    (_order, 28),
    (_return, 14),
    (_supplier, 9),
    (_colleague, 11),
    (_by_words, 13),
    (_forged_bank, 7),
    (_listed_client, 6),
    (_denied_sender, 6),
    (_dangerous_attachment, 5),
    (_test_spam, 1),
)
