"""How a connection is opened, as dialogues: what the hop says, what we say, where it ends."""

import pytest

from syncd.layers import TlsMode
from syncd.nexthop.answer import Refused
from syncd.nexthop.opening import Offers, Opening, Stage, offers
from syncd.nexthop.reply import Garbled, Replies, Reply

HANDSHAKE = "(handshake)"

DIALOGUES: list[tuple[str, TlsMode, list[tuple[str, str]], str]] = [
    ("plain", "opportunistic", [("220 hop", "EHLO us"), ("250 hop", "")], "READY"),
    ("two lines of greeting", "opportunistic", [("220-hop\r\n220 hop", "EHLO us"), ("250 hop", "")], "READY"),
    ("HELO", "opportunistic", [("220 hop", "EHLO us"), ("502 no", "HELO us"), ("250 hop", "")], "READY"),
    ("EHLO not now", "opportunistic", [("220 hop", "EHLO us"), ("451 no", "HELO us"), ("250 hop", "")], "READY"),
    ("nothing helps", "opportunistic", [("220 hop", "EHLO us"), ("502 no", "HELO us"), ("504 no", "")], "504"),
    ("refused", "opportunistic", [("554 5.7.1 go away", "")], "554"),
    ("busy", "opportunistic", [("421 4.3.2 busy", "")], "421"),
    ("busy at EHLO", "opportunistic", [("220 hop", "EHLO us"), ("421 4.3.2 busy", "")], "421"),
    ("354 for a greeting", "opportunistic", [("354 go", "")], "garbled"),
    ("354 to EHLO", "opportunistic", [("220 hop", "EHLO us"), ("354 go", "")], "garbled"),
    (
        "TLS",
        "verified",
        [
            ("220 hop", "EHLO us"),
            ("250-hop\r\n250 STARTTLS", "STARTTLS"),
            ("220 go", HANDSHAKE),
            (HANDSHAKE, "EHLO us"),
            ("250-hop\r\n250 STARTTLS", ""),
        ],
        "READY",
    ),
    ("TLS not offered", "required", [("220 hop", "EHLO us"), ("250 hop", "")], "451"),
    ("TLS not offered by HELO", "verified", [("220 h", "EHLO us"), ("500 no", "HELO us"), ("250 h", "")], "451"),
    (
        "TLS refused, and not needed",
        "opportunistic",
        [("220 hop", "EHLO us"), ("250-hop\r\n250 STARTTLS", "STARTTLS"), ("454 4.7.0 not now", "")],
        "READY",
    ),
    (
        "TLS refused, and needed",
        "required",
        [("220 hop", "EHLO us"), ("250-hop\r\n250 STARTTLS", "STARTTLS"), ("554 5.7.0 never", "")],
        "451",
    ),
    (
        "TLS answered by 421",
        "opportunistic",
        [("220 hop", "EHLO us"), ("250-hop\r\n250 STARTTLS", "STARTTLS"), ("421 bye", "")],
        "421",
    ),
]


def read(text: str) -> Reply:
    replies = Replies()
    replies.feed(text.encode() + b"\r\n")
    reply = replies.take()
    assert reply
    assert not replies.held_bytes
    return reply


@pytest.mark.parametrize(("case", "mode", "dialogue", "end"), DIALOGUES, ids=[case for case, *_ in DIALOGUES])
def test_dialogues(case: str, mode: TlsMode, dialogue: list[tuple[str, str]], end: str) -> None:
    opening = Opening("us", mode)
    ended = ""
    for hop_says, we_say in dialogue:
        assert not ended
        try:
            said = opening.secured() if hop_says is HANDSHAKE else opening.heard(read(hop_says))
        except Refused as error:
            ended = str(error.code)
        except Garbled:
            ended = "garbled"
        else:
            shaken = HANDSHAKE if opening.stage is Stage.HANDSHAKE else ""
            assert (said.decode().strip() or shaken) == we_say
    assert (ended or opening.stage.name) == end


def test_offers_in_clear_are_forgotten_under_tls() -> None:
    opening = Opening("us", "required")
    for reply in ("220 hop", "250-hop\r\n250-STARTTLS\r\n250-PIPELINING\r\n250 SMTPUTF8", "220 go"):
        opening.heard(read(reply))
    opening.secured()
    assert opening.offers == Offers()
    opening.heard(read("250-hop\r\n250 8BITMIME"))
    assert opening.offers == Offers(eight_bit=True)


def test_in_clear_when_tls_broke_before() -> None:
    opening = Opening("us", "opportunistic", tls=False)
    opening.heard(read("220 hop"))
    opening.heard(read("250-hop\r\n250 STARTTLS"))
    assert opening.stage is Stage.READY


def test_only_opportunistic_tls_can_be_left_out() -> None:
    opening = Opening("us", "required", tls=False)
    opening.heard(read("220 hop"))
    with pytest.raises(Refused):
        opening.heard(read("250 hop"))


@pytest.mark.parametrize(
    ("ehlo", "offered"),
    [
        ("250 PIPELINING", Offers()),
        ("250-h\r\n250 pipelining", Offers(pipelining=True)),
        ("250-h\r\n250 SIZE", Offers(size=True)),
        ("250-h\r\n250 SIZE 0", Offers(size=True)),
        ("250-h\r\n250 SIZE 100", Offers(size=True, size_bytes=100)),
        ("250-h\r\n250 SIZE 1e9", Offers(size=True)),
        ("250-h\r\n250 SIZE -1", Offers(size=True)),
        ("250-h\r\n250 SIZE " + "9" * 400, Offers(size=True)),
        ("250-h\r\n250-\r\n250-8BITMIME\r\n250 SMTPUTF8 x y", Offers(eight_bit=True, smtputf8=True)),
    ],
)
def test_offers(ehlo: str, offered: Offers) -> None:
    assert offers(read(ehlo)) == offered
