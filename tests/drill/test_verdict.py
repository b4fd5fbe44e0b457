"""The drill's judge must see every broken promise, or its clean tables mean nothing."""

import pytest

from tests.drill.load import Attempt, Mail
from tests.drill.verdict import judge, transaction

ONE, TWO = "01JD0000000000000000000001", "01JD0000000000000000000002"


def _mail(refused: bool, *answers: tuple[int, bool]) -> Mail:
    return Mail("run-1", refused, [Attempt(0.0, 0, code, after_dot=after_dot) for code, after_dot in answers])


def _copy(txn: str) -> bytes:
    return f"Received: from a (127.0.0.1)\r\n\tby mx1 with ESMTP id {txn};\r\n\r\n".encode()


CLEAN = [
    ("delivered", _mail(False, (250, False)), [ONE], []),
    ("kept", _mail(True, (550, False)), [], [f"{ONE}.0"]),
    ("delivered at the second try", _mail(False, (451, False), (250, False)), [ONE], []),
    ("our reply was lost, sent again", _mail(False, (0, True), (250, False)), [ONE, TWO], []),
    ("our refusal was lost, sent again", _mail(True, (0, True), (550, False)), [], [f"{ONE}.0", f"{TWO}.0"]),
]
BROKEN = [
    ("lost", _mail(False, (250, False)), [], [], "lost"),
    ("lost", _mail(True, (550, False)), [], [], "lost"),
    ("refused though wanted", _mail(False, (550, False)), [], [f"{ONE}.0"], "falsely_refused"),
    ("kept though answered 250", _mail(False, (250, False)), [ONE], [f"{TWO}.0"], "falsely_refused"),
    ("passed though listed", _mail(True, (250, False)), [ONE], [], "wrongly_passed"),
    ("one transaction twice", _mail(False, (0, True), (250, False)), [ONE, ONE], [], "duplicated"),
    ("one transaction kept twice", _mail(True, (0, True), (550, False)), [], [f"{ONE}.0", f"{ONE}.0"], "duplicated"),
    (
        "a repeat that no cut explains",
        _mail(True, (451, False), (550, False)),
        [],
        [f"{ONE}.0", f"{TWO}.0"],
        "duplicated",
    ),
    ("never answered", _mail(False, (451, False)), [], [], "unanswered"),
]


@pytest.mark.parametrize(("what", "mail", "boxes", "kept"), CLEAN, ids=[row[0] for row in CLEAN])
def test_a_promise_that_held(what: str, mail: Mail, boxes: list[str], kept: list[str]) -> None:
    assert judge([mail], {"run-1": [_copy(txn) for txn in boxes]}, {"run-1": kept}).is_clean, what


@pytest.mark.parametrize(("what", "mail", "boxes", "kept", "named"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_promise_that_was_broken(what: str, mail: Mail, boxes: list[str], kept: list[str], named: str) -> None:
    found = judge([mail], {"run-1": [_copy(txn) for txn in boxes]}, {"run-1": kept})
    assert not found.is_clean, what
    assert getattr(found, named) == ["run-1"] * len(getattr(found, named))
    assert getattr(found, named)


def test_the_id_is_read_from_the_received_field() -> None:
    assert transaction(_copy(ONE)) == ONE
    assert transaction(b"Subject: none\r\n\r\n") == ""
