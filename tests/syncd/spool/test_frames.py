"""Ranges, frames and messages of the spool protocol: there and back, in parts, cut, and made of noise."""

import random
from itertools import pairwise

import pytest

from syncd.spool import messages
from syncd.spool.assembly import MAX_OPEN, Assembly
from syncd.spool.copies import Copies
from syncd.spool.frames import HEAD_BYTES, MAX_PAYLOAD_BYTES, BadFrame, Frame, Kind, Reader, WrongVersion, encode
from syncd.spool.messages import Code, Farewell, Hello, Purpose, Welcome
from syncd.spool.ranges import Positions
from syncd.spool.record import Kind as RecordKind

HELLO = Hello(Purpose.OWN, "mx1", "0" * 32, "large", ("mx2",))


# --- ranges


@pytest.mark.parametrize("seed", range(20))
def test_positions_are_the_set_they_say(seed: int) -> None:
    chooser, positions, model = random.Random(seed), Positions(), set[int]()
    for _ in range(300):
        first = chooser.randint(1, 60)
        if chooser.random() < 0.4:
            positions.discard(first)
            model.discard(first)
        else:
            last = first + chooser.choice((0, 0, 1, 7))
            positions.add(first, last)
            model |= set(range(first, last + 1))
        assert set(positions) == model
        assert positions.count == len(model)
        assert bool(positions) is bool(model)
        assert all((each in positions) is (each in model) for each in range(70))
        ranges = positions.ranges()
        assert all(a[1] + 1 < b[0] for a, b in pairwise(ranges)), "touching ranges are one"


def test_common_positions() -> None:
    one, other = Positions([(1, 5), (10, 20), (30, 30)]), Positions([(4, 12), (20, 29), (30, 40)])
    assert one.common(other) == other.common(one) == ((4, 5), (10, 12), (20, 20), (30, 30))
    assert one.common(Positions()) == ()


def test_a_hostile_range_costs_no_more_than_a_small_one() -> None:
    positions = Positions([(1, 2**63)])
    assert 2**62 in positions
    assert Copies({}).held("receiver", positions) == []


# --- frames

FRAMES = [(Kind.PING, b""), (Kind.HELD, b"x" * 16), (Kind.BODY, b"y" * MAX_PAYLOAD_BYTES), (Kind.BYE, b"{}")]


@pytest.mark.parametrize("step", [1, 3, 7, 8, 9, 1000, 10**9])
def test_frames_come_out_however_the_bytes_come_in(step: int) -> None:
    data = b"".join(encode(kind, payload) for kind, payload in FRAMES)
    reader, found = Reader(), list[Frame]()
    step_bytes = step if step > 3 else step * 100 + 1
    for start in range(0, len(data), step_bytes):
        found += reader.feed(data[start : start + step_bytes])
    assert [(frame.kind, frame.payload) for frame in found] == FRAMES
    assert reader.is_between_frames


def test_a_frame_byte_by_byte_with_another_behind_it() -> None:
    data, reader = encode(Kind.HELD, b"abc") + encode(Kind.PONG)[:5], Reader()
    found = [list(reader.feed(data[at : at + 1])) for at in range(len(data))]
    assert [len(each) for each in found] == [0] * (HEAD_BYTES + 2) + [1] + [0] * 5
    assert not reader.is_between_frames


def fed_by_bytes(data: bytes) -> list[Frame]:
    reader = Reader()
    return [frame for at in range(len(data)) for frame in reader.feed(data[at : at + 1])]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET / HTTP/1.1\r\n", BadFrame),
        (b"\x16\x03\x01", BadFrame),
        (b"m\x00", BadFrame),
        (b"mx\x02\x01\x00\x00\x00\x00", WrongVersion),
        (b"mx\x02", WrongVersion),
        (b"mx\x01\x0b\xff\xff\xff\xff", BadFrame),
        (b"mx\x01\x0b" + (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "big"), BadFrame),
    ],
)
def test_what_is_no_frame_is_said_to_be_none(data: bytes, error: type[BadFrame]) -> None:
    with pytest.raises(error):
        list(Reader().feed(data))
    with pytest.raises(error):
        fed_by_bytes(data)


def test_a_frame_over_the_bound_is_not_made() -> None:
    with pytest.raises(ValueError, match="too much"):
        encode(Kind.BODY, bytes(MAX_PAYLOAD_BYTES + 1))


# --- messages


def read(data: bytes) -> list[Frame]:
    return list(Reader().feed(data))


@pytest.mark.parametrize("message", [HELLO, Welcome(((1, 2),), ((3, 9),)), Farewell(Code.FULL, "no room")])
def test_greetings_there_and_back(message: Hello | Welcome | Farewell) -> None:
    (frame,) = read(messages.greeting(Kind.HELLO, message))
    assert messages.read_greeting(frame, type(message)) == message


def test_a_greeting_of_a_newer_minor_is_understood() -> None:
    payload = b'{"purpose":"own","node":"mx1","epoch":"' + b"0" * 32 + b'","minor":9,"colour":"blue"}'
    assert messages.read_greeting(Frame(Kind.HELLO, payload), Hello).minor == 9


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"[]", b'{"purpose":"steal"}', b"\xff", b'{"purpose":"own","lane":"x"}']
)
def test_a_greeting_that_is_none(payload: bytes) -> None:
    with pytest.raises(BadFrame):
        messages.read_greeting(Frame(Kind.HELLO, payload), Hello)


@pytest.mark.parametrize("size", [0, 1, messages.CHUNK_BYTES - 2, messages.CHUNK_BYTES - 1, 3 * messages.CHUNK_BYTES])
def test_a_record_there_and_back_in_parts(size: int) -> None:
    header, body = b"{}", bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    item = messages.item(7, RecordKind.LATER, "01ID", header, body, 1.5)
    frames = read(b"".join(messages.record_frames(Kind.RECORD, item, header + body)))
    assembly = Assembly()
    whole = assembly.begin(*messages.read_item(frames[0]))
    for frame in frames[1:]:
        assert whole is None
        whole = assembly.go_on(*messages.read_part(frame))
    assert whole == (item, header + body)
    assert len(frames) == 1 + max(0, (size + 2 - 1) // messages.CHUNK_BYTES)


@pytest.mark.parametrize(
    ("record_id", "header", "body"),
    [("", b"", b""), ("x" * 27, b"", b""), ("x", bytes(messages.MAX_HEADER_BYTES + 1), b"")],
)
def test_a_record_over_the_bounds_is_not_made(record_id: str, header: bytes, body: bytes) -> None:
    with pytest.raises(ValueError):
        messages.item(1, RecordKind.KEPT, record_id, header, body, 0.0)


def test_a_record_that_is_not_what_it_says() -> None:
    item = messages.item(1, RecordKind.KEPT, "01ID", b"{}", b"body", 0.0)
    with pytest.raises(BadFrame, match="CRC"):
        Assembly().begin(item, b"{}bodx")
    with pytest.raises(BadFrame, match="longer"):
        Assembly().begin(item, b"{}body!")
    assembly = Assembly()
    assert assembly.begin(item, b"{}") is None
    with pytest.raises(BadFrame, match="again"):
        assembly.begin(item, b"{}")
    with pytest.raises(BadFrame, match="not under way"):
        assembly.go_on(2, b"x")
    with pytest.raises(BadFrame):
        assembly.go_on(1, b"")
    assert assembly.drop(1)
    assert not assembly.drop(1)


def test_records_under_way_are_bounded() -> None:
    assembly = Assembly()
    for number in range(MAX_OPEN):
        assembly.begin(messages.item(number + 1, RecordKind.KEPT, "01ID", b"{}", b"", 0.0), b"{")
    with pytest.raises(BadFrame, match="more than"):
        assembly.begin(messages.item(99, RecordKind.KEPT, "01ID", b"{}", b"", 0.0), b"{")


@pytest.mark.parametrize("cut", [1, 15, 17, 31])
def test_ranges_that_are_cut(cut: int) -> None:
    (frame,) = read(b"".join(messages.ranges_frames(Kind.HELD, ((1, 2), (4, 4)))))
    assert messages.read_ranges(frame) == ((1, 2), (4, 4))
    with pytest.raises(BadFrame):
        messages.read_ranges(Frame(Kind.HELD, frame.payload[:cut]))


@pytest.mark.parametrize("ranges", [((0, 1),), ((2, 1),), ((1, 3), (3, 4)), ((5, 6), (1, 2))])
def test_ranges_out_of_order(ranges: tuple[tuple[int, int], ...]) -> None:
    (frame,) = read(b"".join(messages.ranges_frames(Kind.HELD, ranges)))
    with pytest.raises(BadFrame):
        messages.read_ranges(frame)


def test_many_ranges_take_several_frames() -> None:
    ranges = tuple((2 * n, 2 * n) for n in range(1, messages.MAX_RANGES + 10))
    frames = read(b"".join(messages.ranges_frames(Kind.STORED, ranges)))
    assert [len(messages.read_ranges(frame)) for frame in frames] == [messages.MAX_RANGES, 9]


def test_the_ledger_and_answers_there_and_back() -> None:
    (opened,), (closed,) = read(messages.opened_frame("01ID", 3)), read(messages.opened_frame("01ID", 0))
    assert (opened.kind, messages.read_opened(opened)) == (Kind.OPENED, ("01ID", 3))
    assert (closed.kind, messages.read_opened(closed)) == (Kind.CLOSED, ("01ID", 0))
    (answer,) = read(messages.number_frame(Kind.NOT_SECURED, 5, "wörds"))
    assert (messages.read_number(answer), messages.read_words(answer)) == (5, "wörds")


@pytest.mark.parametrize("kind", [Kind.RECORD, Kind.BODY, Kind.SECURED, Kind.OPENED, Kind.HELD])
def test_any_payload_of_any_length_is_read_or_refused(kind: Kind) -> None:
    readers = {
        Kind.RECORD: messages.read_item, Kind.BODY: messages.read_part, Kind.SECURED: messages.read_number,
        Kind.OPENED: messages.read_opened, Kind.HELD: messages.read_ranges,
    }  # fmt: skip
    chooser = random.Random(kind)
    for _ in range(2000):
        try:
            readers[kind](Frame(kind, chooser.randbytes(chooser.randrange(80))))
        except BadFrame:
            continue
