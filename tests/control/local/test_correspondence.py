"""The demo's 500 mails: the same each time, varied, well-formed, and for each filter of the shop some to refuse."""

from collections import Counter
from email import message_from_bytes, policy

from control.local.correspondence import BAD_CLIENT, DENIED_DOMAIN, GTUBE, WORDS, letters

LETTERS = list(letters("shop.test", 500))


def _mails() -> list[tuple[str, str]]:
    parsed = [message_from_bytes(letter.content, policy=policy.default) for letter in LETTERS]
    return [(str(mail["Subject"]), str(mail["From"])) for mail in parsed]


def test_they_are_many_and_differ() -> None:
    mails = _mails()
    assert len(mails) == 500
    assert len({subject for subject, _ in mails}) > 250
    assert len({sender for _, sender in mails}) > 100
    assert len({letter.recipient for letter in LETTERS}) == 6


def test_a_second_run_is_the_same_but_for_the_date() -> None:
    again = [(letter.sender, letter.recipient, letter.client) for letter in letters("shop.test", 500)]
    assert again == [(letter.sender, letter.recipient, letter.client) for letter in LETTERS]


def test_every_line_ends_in_crlf_and_none_is_too_long() -> None:
    for letter in LETTERS:
        lines = letter.content.split(b"\r\n")
        assert not any(b"\n" in line or b"\r" in line for line in lines)
        assert max(map(len, lines)) <= 998, "RFC 5321 section 4.5.3.1.6"


def test_each_filter_of_the_shop_finds_something() -> None:
    found = Counter[str]()
    for letter in LETTERS:
        text = letter.content.lower()
        found["words"] += any(word.encode() in text for word in WORDS)
        found["list"] += letter.client == BAD_CLIENT
        found["sender"] += letter.sender.endswith(DENIED_DOMAIN)
        found["forged"] += letter.sender.endswith("@bank.test")
        found["attachment"] += b".exe" in text or b".scr" in text or b".vbs" in text
        found["gtube"] += GTUBE.lower().encode() in text
    assert min(found.values()) >= 3, found
    assert 150 <= sum(found.values()) <= 260, found
