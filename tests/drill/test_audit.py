"""Every reply that keeps a copy goes out after two hosts have synced it: asked of the kernel, not of our figures."""

import pytest

from syncd.spool import segment
from syncd.spool.messages import item
from syncd.spool.record import Kind
from syncd.spool.stream import Stream
from tests.drill.audit import audit, judge, lacking
from tests.drill.trace import Spoken, replies
from tests.e2e.fleet import Fleet, Reply

ID = "01M88GX4YRAJZRSKZQ3EW1TFJB"
OWN, HELD, CENTRAL = (
    "/v/mx1/journal/own/ab/1.seg",
    "/v/mx2/journal/held/mx1/ab/1.seg",
    "/v/receiver/journal/mx1/ab/1.seg",
)
STREAM = Stream("mx1", "ab" * 16)
ENTRY = b"".join(
    segment.entry(segment.seed(STREAM), segment.What.RECORD, item(5, Kind.KEPT, ID, b"{}", b"x", 1.0), b"{}x")
)


def hexed(data: bytes) -> str:
    """As `strace -xx` writes strings."""
    return "".join(f"\\x{byte:02x}" for byte in data)


def wrote(path: str, pid: int = 1, data: bytes = ENTRY) -> str:
    """A write that ended."""
    return f'{pid} 1.0 write(7<{path}>, "{hexed(data)}", {len(data)}) = {len(data)}'


def synced(path: str, pid: int = 1, result: str = "0") -> str:
    """A sync that ended."""
    return f"{pid} 1.0 fdatasync(7<{path}>) = {result}"


def said(code: int = 550, pid: int = 9) -> str:
    """A reply."""
    text = f"{code} 5.7.1 Refused http://panel/r/{ID}\r\n".encode()
    return f'{pid} 1.0 sendto(12<TCP:[1]>, "{hexed(text)}", {len(text)}, 0, NULL, 0) = {len(text)}'


BEGUN, RESUMED = f"1 1.0 fdatasync(7<{OWN}> <unfinished ...>", "1 1.0 <... fdatasync resumed>) = 0"


@pytest.mark.parametrize(
    ("lines", "hosts"),
    [
        ([wrote(OWN), synced(OWN), wrote(HELD, 2), synced(HELD, 2)], {"/v/mx1/journal", "/v/mx2/journal"}),
        ([wrote(OWN), synced(OWN), wrote(CENTRAL, 2), synced(CENTRAL, 2)], {"/v/mx1/journal", "/v/receiver/journal"}),
        ([wrote(OWN), wrote(HELD, 2), synced(HELD, 2)], {"/v/mx2/journal"}),
        ([wrote(OWN), synced(OWN, result="-1 EIO (Input/output error)")], set()),
        ([BEGUN, wrote(OWN, 3), RESUMED], set()),
        ([wrote(OWN), BEGUN, RESUMED], {"/v/mx1/journal"}),
        ([wrote(OWN), BEGUN], set()),
        ([wrote(OWN, data=b"MXrc nothing"), synced(OWN)], set()),
        (["noise", "", "1 1.0 +++ killed +++"], set()),
    ],
)  # fmt: skip
def test_a_record_is_safe_once_a_sync_that_began_after_its_write_has_ended(lines: list[str], hosts: set[str]) -> None:
    (reply,) = replies([*lines, said(), wrote(OWN, 4), synced(OWN, 4)])
    assert reply == Spoken(550, ID, frozenset(hosts))


def test_what_is_not_proved_is_an_exception() -> None:
    answers = [Reply(550, f"no {ID}"), Reply(250, "Ok: 01M88GX4YRAJZRSKZQ3EW1TFJC"), Reply(451, "later")]
    found = judge(answers, [Spoken(550, ID, frozenset({"one"}))])
    assert (found.refused, found.held, found.deferred, found.unseen, len(found.exceptions)) == (1, 1, 1, 1, 1)


@pytest.mark.cluster
@pytest.mark.timeout(300)
@pytest.mark.parametrize("without_database", [False, True])
def test_replies_stand_on_two_synced_journals(fleet: Fleet, without_database: bool) -> None:
    if why := lacking():
        pytest.skip(why)
    found = audit(fleet, 50, without_database=without_database)
    assert found.refused >= 15
    assert found.held >= 15
    assert (found.exceptions, found.unseen) == ([], 0)
