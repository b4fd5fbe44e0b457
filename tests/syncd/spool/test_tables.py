"""The rules of the spool that have no I/O: tables of the links, copies, the ledger, the order of peers."""

from collections.abc import Iterator

import pytest

from monitoring.metrics import syncd as metrics
from syncd.layers import Member
from syncd.spool import messages, protocol
from syncd.spool.copies import Copies, Waiting
from syncd.spool.frames import BadFrame, Kind
from syncd.spool.journal import Kept
from syncd.spool.ledger import GRACE_S, OpenTransactions
from syncd.spool.members import ranked
from syncd.spool.messages import Hello, Purpose
from syncd.spool.protocol import Link, Side, State
from syncd.spool.ranges import Positions
from syncd.spool.record import Kind as RecordKind

HELLO = Hello(Purpose.OWN, "mx1", "0" * 32, "large", ("mx2",))


# --- tables


def allowed(purpose: Purpose) -> Iterator[tuple[State, Side, Kind, State | None]]:
    """Every pair of state and frame of a table, and where it leads."""
    for state in State:
        for side in Side:
            for kind in Kind:
                yield state, side, kind, protocol.TABLES[purpose].get(state, {}).get((side, kind))


@pytest.mark.parametrize("purpose", Purpose)
def test_both_ends_walk_through_the_same_table(purpose: Purpose) -> None:
    for state, side, kind, leads_to in allowed(purpose):
        speaker, listener = Link(purpose, side), Link(purpose, side.other)
        speaker.state = listener.state = state
        if leads_to is None:
            with pytest.raises(BadFrame):
                speaker.say(kind)
            with pytest.raises(BadFrame):
                listener.hear(kind)
        else:
            speaker.say(kind)
            assert listener.hear(kind)
        assert speaker.state is listener.state is (leads_to or state)


@pytest.mark.parametrize(
    ("kind", "side", "purposes"),
    [
        (Kind.STORED, Side.LISTENS, {Purpose.OWN, Purpose.TAKEOVER}),
        (Kind.RELEASED, Side.CONNECTS, {Purpose.COPY}),
        (Kind.WITHDRAWN, Side.CONNECTS, {Purpose.OWN, Purpose.COPY}),
        (Kind.RECORD, Side.CONNECTS, {Purpose.OWN, Purpose.COPY, Purpose.TAKEOVER}),
        (Kind.RECORD, Side.LISTENS, set[Purpose]()),
        (Kind.SUBMIT, Side.CONNECTS, {Purpose.WORKER}),
        (Kind.SECURED, Side.LISTENS, {Purpose.WORKER}),
        (Kind.HELD, Side.CONNECTS, set[Purpose]()),
    ],
)
def test_who_may_say_what_while_a_link_is_open(kind: Kind, side: Side, purposes: set[Purpose]) -> None:
    found = {purpose for purpose, table in protocol.TABLES.items() if (side, kind) in table[State.OPEN]}
    assert found == purposes


def test_unknown_frames_are_skipped_only_from_a_newer_minor() -> None:
    link = Link(Purpose.OWN, Side.LISTENS)
    link.state = State.OPEN
    with pytest.raises(BadFrame, match="unknown kind 99"):
        link.hear(99)
    link.is_newer = True
    assert link.hear(99) is False
    link.state = State.NEW
    with pytest.raises(BadFrame):
        link.hear(99)


# --- copies


def kept(position: int, kind: RecordKind = RecordKind.KEPT) -> Kept:
    return Kept(messages.item(position, kind, "01ID", b"{}", b"12345678", 0.0))


def test_what_is_alone_is_counted_whatever_happens() -> None:
    records = {position: kept(position) for position in (1, 2, 3)}
    records[4] = kept(4, RecordKind.EVENT)
    copies = Copies(records)
    assert copies.alone_bytes == 30
    assert [each.item.number for each in copies.held("receiver", Positions([(1, 2)]))] == [1, 2]
    assert copies.held("mx2", Positions([(2, 3)])) == [records[3]]
    assert copies.alone_bytes == 0
    assert copies.lost("receiver") == [records[1]]
    assert copies.alone_bytes == 10
    assert copies.lost("mx2", but=Positions([(3, 3)])) == [records[2]]
    assert copies.alone_bytes == 20
    assert [each.item.number for each in copies.alone()] == [1, 2]
    for position in (1, 2, 3, 4):
        gone = records.pop(position)
        assert copies.removed(gone)
        assert not copies.removed(gone), "twice is once"
    assert copies.alone_bytes == 0


def test_records_wait_for_their_time() -> None:
    now = [0.0]
    waiting = Waiting(lambda: now[0])
    assert waiting.next_in_s() == float("inf")
    waiting.put(1, 5.0)
    waiting.put(2, 1.0)
    waiting.put(1, 3.0, tries=2)
    waiting.put(3, 2.0)
    waiting.drop(3)
    assert waiting.next_in_s() == 1.0
    now[0] = 4.0
    assert waiting.due(1) == [(2, 0)]
    assert waiting.due(10) == [(1, 2)]
    now[0] = 100.0
    assert waiting.due(10) == []


# --- ledger


def test_what_a_worker_had_open_is_unknown_once_and_only_when_it_stays_away() -> None:
    now = [0.0]
    ledger = OpenTransactions(lambda: now[0])
    before = metrics.ledger_unknown._value.get()
    for instance in ("a", "b"):
        ledger.connected(instance)
        ledger.opened(instance, "t1", 1)
        ledger.opened(instance, "t1", 3)
    ledger.closed("a", "never opened")
    assert ledger.recipients == 6
    ledger.disconnected("a")
    ledger.disconnected("b")
    ledger.connected("a")
    ledger.opened("a", "t1", 3)
    now[0] = GRACE_S
    assert ledger.write_off() == 3
    assert ledger.write_off() == 0
    assert metrics.ledger_unknown._value.get() == before + 3
    ledger.closed("a", "t1")
    assert ledger.recipients == 0


# --- peers


def member(name: str, state: str = "joined") -> Member:
    return Member(name, "127.0.0.1", 1, "127.0.0.1", 2, state)  # type: ignore[arg-type]


def test_peers_are_the_others_and_their_order_survives_a_change() -> None:
    members = [member(f"mx{number}") for number in range(1, 8)]
    names = [peer.name for peer in ranked("mx1", members)]
    assert sorted(names) == [f"mx{number}" for number in range(2, 8)]
    assert [peer.name for peer in ranked("mx1", members[::-1])] == names
    fewer = [each for each in members if each.node != names[2]]
    assert [peer.name for peer in ranked("mx1", fewer)] == names[:2] + names[3:]
    firsts = {ranked(f"mx{number}", members)[0].name for number in range(1, 8)}
    assert len(firsts) > 2, "copies are spread over the fleet"


def test_who_is_no_peer() -> None:
    assert ranked("mx1", [member("mx1"), member("mx2", "drained"), member("../../x")]) == ()
    assert [peer.name for peer in ranked("mx1", [member("mx2", "draining")])] == ["mx2"]
