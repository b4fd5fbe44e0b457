"""Verdict tables of the filters that read the message but not its words: loop, size, headers, gtube, attachments."""

import base64
import io
import zipfile
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import pytest

from mx.filter import Action, Message, Part
from mx.filters import attachments, gtube, headers, loop, size
from tests.mx.filters.tables import NOW, Case, complaint, hold_to, message, seen, settings_of, tools

LOOPS = [
    Case("a new mail", loop.Facts(), {}, Action.PASS),
    Case("a long way", loop.Facts(received=50), {}, Action.PASS),
    Case("too long", loop.Facts(received=51), {}, Action.REFUSE, "51 Received fields, more than 50", "554 5.4.6"),
    Case("longer by choice", loop.Facts(received=51), {"max_received": 100}, Action.PASS),
    Case("through us", loop.Facts(own=6), {}, Action.REFUSE, "6 passages through this node", "554 5.4.6"),
    Case("to one address", loop.Facts(delivered=4), {}, Action.REFUSE, "4 deliveries to one address", "554 5.4.6"),
]


@pytest.mark.parametrize("case", LOOPS, ids=lambda case: case.name)
def test_loop(case: Case) -> None:
    hold_to(loop.FILTER, case)
    assert not loop.FILTER.bypassable


def test_loop_counts_what_really_stands_in_the_header() -> None:
    head = (
        b"Received: from a by MX1.mxfleet.test (x)\r\n\twith ESMTP\r\n"
        b"received: from by mx1.mxfleet.test.evil.test by x\r\n"
        b"Delivered-To: Bob@example.test\r\nDelivered-To: bob@example.test\r\nDelivered-To: ann@example.test\r\n"
        b"Subject: Received: by mx1.mxfleet.test\r\n\r\nReceived: from the body by mx1.mxfleet.test\r\n"
    )
    assert loop.count(head, "mx1.mxfleet.test") == loop.Facts(received=2, own=1, delivered=2)
    assert loop.count(b"", "mx1.mxfleet.test") == loop.Facts()


SIZES = [
    Case("at the limit", 1000, {"max_bytes": 1000}, Action.PASS),
    Case("above it", 1001, {"max_bytes": 1000}, Action.REFUSE, "1001 bytes, more than the 1000", "552 5.3.4"),
]


@pytest.mark.parametrize("case", SIZES, ids=lambda case: case.name)
def test_size(case: Case) -> None:
    hold_to(size.FILTER, case)


FULL = {
    "From": "Ann <ann@sender.test>",
    "Date": format_datetime(datetime.fromtimestamp(NOW, UTC)),
    "Message-ID": "<1@x>",
}
EVERY = dict.fromkeys(
    (
        "no_from",
        "several_from",
        "from_without_address",
        "no_date",
        "bad_date",
        "wrong_date",
        "no_message_id",
        "repeated",
    ),
    "refuse",
)


def head(extra: str = "", **changed: str | None) -> bytes:
    """A header with all it must have, but for the fields that are changed, or left out by None."""
    fields = {**FULL, **{name.replace("_", "-"): value for name, value in changed.items()}}
    lines = [f"{name}: {value}\r\n" for name, value in fields.items() if value is not None]
    return ("".join(lines) + extra + "\r\n").encode()


def at(days: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + days * 86400, UTC))


HEADERS = [
    ("whole", head(), Action.PASS, ""),
    ("no From", head(From=None), Action.REFUSE, "There is no From field"),
    ("two From", head("From: eve@evil.test\r\n"), Action.REFUSE, "There are 2 From fields"),
    ("From without an address", head(From="Your bank"), Action.REFUSE, "From has no address"),
    ("an empty From", head(From=""), Action.REFUSE, "From has no address"),
    ("From with a bare address", head(From="ann@sender.test"), Action.PASS, ""),
    ("From folded", head(From="Ann\r\n <ann@sender.test>"), Action.PASS, ""),
    ("no Date", head(Date=None), Action.REFUSE, "There is no Date field"),
    ("a date that is none", head(Date="soon"), Action.REFUSE, "cannot be read"),
    ("a date of odd numbers", head(Date="Mon, 99 Foo 99999 99:99:99 +9999"), Action.REFUSE, "cannot be read"),
    ("a date ahead", head(Date=at(2)), Action.REFUSE, "2 days ahead"),
    ("a date past", head(Date=at(-400)), Action.REFUSE, "400 days past"),
    ("a date near", head(Date=at(-0.5)), Action.PASS, ""),
    ("a date without a zone", head(Date=at(0).removesuffix(" +0000")), Action.PASS, ""),
    ("no Message-ID", head(Message_ID=None), Action.REFUSE, "There is no Message-ID field"),
    ("two subjects", head("Subject: a\r\nsubject: b\r\n"), Action.REFUSE, "Repeated fields: subject"),
    ("two Received", head("Received: a\r\nReceived: b\r\n"), Action.PASS, ""),
    ("no header at all", b"\r\nbody\r\n", Action.REFUSE, "There is no From field; There is no Date field"),
    ("nothing", b"", Action.REFUSE, "There is no From field"),
]


@pytest.mark.parametrize(("name", "raw", "action", "says"), HEADERS, ids=[row[0] for row in HEADERS])
async def test_headers(name: str, raw: bytes, action: Action, says: str) -> None:
    facts = await headers.look(seen(raw), settings_of(headers.FILTER, EVERY), tools())
    hold_to(headers.FILTER, Case(name, facts, EVERY, action, says, "550 5.6.0"))
    nothing = dict.fromkeys(EVERY, "off")
    assert headers.judge(facts, settings_of(headers.FILTER, nothing)).action is Action.PASS


TESTS = [
    Case("another mail", False, {}, Action.PASS),
    Case("the test mail", True, {}, Action.REFUSE, "GTUBE"),
    Case("the test mail, tagged", True, {"action": "tag"}, Action.TAG, "GTUBE"),
]


@pytest.mark.parametrize("case", TESTS, ids=lambda case: case.name)
def test_gtube(case: Case) -> None:
    hold_to(gtube.FILTER, case)
    assert not gtube.FILTER.bypassable


@pytest.mark.parametrize("encoding", ["7bit", "base64", "quoted-printable"])
@pytest.mark.parametrize("kind", ["plain", "html"])
async def test_gtube_is_found_however_it_is_encoded(encoding: str, kind: str) -> None:
    mail = EmailMessage()
    mail["From"] = "ann@sender.test"
    mail.set_content(f"<p>{gtube.GTUBE}</p>" if kind == "html" else gtube.GTUBE, subtype=kind, cte=encoding)
    session = seen(mail.as_bytes().replace(b"\n", b"\r\n"))
    assert await gtube.look(session, settings_of(gtube.FILTER, {}), tools())
    assert not await gtube.look(seen(b"Subject: x\r\n\r\nx\r\n"), settings_of(gtube.FILTER, {}), tools())


def carried(*names: str, **more: Any) -> Message:
    return message(parts=tuple(Part("application/octet-stream", name) for name in names), **more)


def one(name: str, magic: str, *members: str) -> Message:
    return message(parts=(Part("image/jpeg", name, magic=magic, members=members),))


DEFAULTS = settings_of(attachments.FILTER, {})
ZIPPED = one("papers.zip", "zip", "a.txt", "inner.zip/run.EXE")
FILES = [
    Case("nothing", message(), {}, Action.PASS),
    Case("harmless", carried("a.pdf", "b.jpg", "exe"), {}, Action.PASS),
    Case("a program", carried("a.pdf", "Invoice.pdf.EXE"), {}, Action.REFUSE, "carries Invoice.pdf.EXE"),
    Case("dots and spaces behind", carried("a.exe. ."), {}, Action.REFUSE, "carries a.exe"),
    Case("a name turned round", carried("cod\u202efdp.exe"), {}, Action.REFUSE, "carries"),
    Case("full-width letters", carried("a.ｅｘｅ"), {}, Action.REFUSE, "carries"),
    Case("in an archive", ZIPPED, {}, Action.REFUSE, "inner.zip/run.EXE in papers.zip"),
    Case("in an archive, not looked at", ZIPPED, {"archives": "skip"}, Action.PASS),
    Case("own kinds", carried("a.pdf"), {"extensions": ["pdf"]}, Action.REFUSE, "a.pdf"),
    Case("own kinds only", carried("a.exe"), {"extensions": ["pdf"]}, Action.PASS),
    Case("a kind of two parts", carried("a.tar.gz"), {"extensions": ["tar.gz"]}, Action.REFUSE, "a.tar.gz"),
    Case("no kinds", carried("a.exe"), {"extensions": []}, Action.PASS),
    Case("tagged", carried("a.exe"), {"action": "tag"}, Action.TAG, "a.exe"),
    Case("disguised", one("cat.jpg", "pe"), {}, Action.REFUSE, "disguised as cat.jpg"),
    Case("disguised, left alone", one("cat.jpg", "pe"), {"disguised": "off"}, Action.PASS),
    Case("a program that says so", one("a.exe", "pe"), {"extensions": []}, Action.PASS),
    Case("encrypted", carried("a.zip", defects=("encrypted archive",)), {}, Action.PASS),
    Case(
        "encrypted, held",
        carried("a.zip", defects=("encrypted archive",)),
        {"encrypted": "hold"},
        Action.HOLD,
        "is encrypted",
    ),
    Case(
        "closed",
        carried("a.rar", defects=("unreadable archive",)),
        {"closed": "score"},
        Action.SCORE,
        "cannot be looked into",
    ),
    Case("many", carried(*(f"{n}.exe" for n in range(9))), {}, Action.REFUSE, "2.exe and 6 more"),
    Case("unreadable", message(unchecked="late"), {}, Action.HOLD, "could not be taken apart: late"),
    Case("unreadable, passed", message(unchecked="late"), {"when_unchecked": "pass"}, Action.UNSURE, "late"),
    Case("unreadable, deferred", message(unchecked="late"), {"when_unchecked": "defer"}, Action.DEFER, "late"),
    Case(
        "unreadable, refused", message(unchecked="late"), {"when_unchecked": "refuse"}, Action.REFUSE, "", "550 5.6.0"
    ),
]


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.name)
def test_attachments(case: Case) -> None:
    facts = attachments.of(case.facts, settings_of(attachments.FILTER, case.settings))
    hold_to(attachments.FILTER, case._replace(facts=facts))


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in members.items():
            made.writestr(name.replace("_", "."), content)
    return file.getvalue()


PROGRAM = b"MZ" + bytes(200)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("invoice.pdf", b"%PDF-1.4\n", ""),
        ("order.js", b"x", "carries order.js"),
        ("photo.jpg", PROGRAM, "disguised as photo.jpg"),
        ("papers.zip", zipped(read_me=b"x", run_exe=PROGRAM), "carries run.exe in papers.zip"),
        ("papers.zip", zipped(inner_zip=zipped(run_scr=b"x")), "carries inner.zip/run.scr in papers.zip"),
        ("schöne grüße.exe", PROGRAM, "carries schöne grüße.exe"),
    ],
)
async def test_attachments_of_real_mail(name: str, content: bytes, says: str) -> None:
    mail = EmailMessage()
    mail["From"] = "ann@sender.test"
    mail.set_content("see the file")
    mail.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    facts = await attachments.look(seen(mail.as_bytes().replace(b"\n", b"\r\n")), DEFAULTS, tools())
    verdict = attachments.judge(facts, settings_of(attachments.FILTER, {}))
    assert says in verdict.reason
    assert (verdict.action is Action.PASS) is (says == "")


async def test_a_program_without_a_name_is_disguised() -> None:
    raw = b"Content-Transfer-Encoding: base64\r\nContent-Type: image/png\r\n\r\n" + base64.b64encode(PROGRAM) + b"\r\n"
    facts = await attachments.look(seen(raw), DEFAULTS, tools())
    assert "disguised" in attachments.judge(facts, settings_of(attachments.FILTER, {})).reason


@pytest.mark.parametrize("magic", ["rar", "7z", "cab"])
def test_an_archive_of_another_kind_is_closed(magic: str) -> None:
    assert attachments.of(one("x", magic), DEFAULTS).is_closed


def test_of_very_many_names_the_rest_is_closed_and_not_clean() -> None:
    full = one("x.zip", "zip", *("a.txt" for _ in range(attachments.MOST_NAMES - 1)))
    assert not attachments.of(full, DEFAULTS).is_closed
    more = message(parts=(*full.parts, Part("a/b", "last.exe")))
    assert attachments.of(more, DEFAULTS) == attachments.Facts(is_closed=True)


def test_a_message_that_was_not_parsed_is_not_clean() -> None:
    assert attachments.of(None, DEFAULTS).unchecked


@pytest.mark.parametrize(
    ("filter_", "settings", "field"),
    [
        (loop.FILTER, {"max_received": 19}, "loop.max_received"),
        (size.FILTER, {"max_bytes": 999}, "size.max_bytes"),
        (size.FILTER, {"max_bytes": "1000"}, "size.max_bytes"),
        (headers.FILTER, {"no_from": "hold"}, "headers.no_from"),
        (headers.FILTER, {"max_ahead_h": 0}, "headers.max_ahead_h"),
        (gtube.FILTER, {"action": "off"}, "gtube.action"),
        (attachments.FILTER, {"extensions": [".exe"]}, "attachments.extensions[0]"),
        (attachments.FILTER, {"extensions": ["exe\n"]}, "attachments.extensions[0]"),
        (attachments.FILTER, {"when_unchecked": "clean"}, "attachments.when_unchecked"),
        (attachments.FILTER, {"archives": True}, "attachments.archives"),
    ],
)
def test_settings_that_are_refused(filter_: Any, settings: dict[str, Any], field: str) -> None:
    assert complaint(filter_, settings)[0] == field
