"""Who leaves rotation, who comes back, who stays as the last; and the real key in a real etcd that decides a race."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from syncd import config, keys
from syncd.etcd import Etcd
from syncd.layers import Member, canonical
from syncd.receipts import Receipt
from syncd.rotate import Rotation
from syncd.rotation import Memory, Turn, look, turn
from syncd.status import Status, boot_id, monotonic
from tests.syncd.running import follow, until
from tests.syncd.test_follow import Run, published

GOOD = Status(generation=1, revision=10, state="live", complete=True, published=Status().digest)
WRONG = msgspec.structs.replace(GOOD, published="f" * 32)


def peer(name: str = "mx2", revision: int = 10, state: str = "live", agrees: bool = True, **more: str) -> Receipt:
    """What a peer reports."""
    return Receipt(node=name, generation=1, revision=revision, digest="", state=state, at=0.0, agrees=agrees, **more)  # type: ignore[arg-type]


def looked(mine: Sequence[Status], peers: Sequence[Receipt], step_s: float = 2.5) -> Memory:
    """What is remembered after a look at each of these."""
    memory = Memory()
    for number, status in enumerate(mine):
        memory = look(memory, status, peers, 1000 + number * step_s)
    return memory


def moving(count: int) -> list[Status]:
    return [msgspec.structs.replace(GOOD, revision=10 + number) for number in range(count)]


@pytest.mark.parametrize(
    ("mine", "peers", "step_s", "why"),
    [
        ([GOOD] * 9, [peer()], 2.5, ""),
        ([GOOD] * 9, [peer(revision=11)], 2.5, "behind"),
        ([GOOD] * 5, [peer(revision=11)], 2.5, ""),
        (moving(9), [peer(revision=9_000)], 2.5, ""),
        ([*moving(9), *[moving(9)[-1]] * 6], [peer(revision=9_000)], 2.5, "behind"),
        ([GOOD] * 9, [peer(revision=11, state="stale")], 2.5, ""),
        ([GOOD] * 9, [peer(revision=9), peer("mx3", 11)], 2.5, "behind"),
        ([msgspec.structs.replace(GOOD, state="loading")] * 9, [peer(revision=11)], 2.5, ""),
        ([msgspec.structs.replace(GOOD, state="stale")] * 9, [peer(revision=11)], 2.5, "behind"),
        ([Status()] * 9, [peer()], 2.5, "behind"),
        ([Status()] * 9, [], 2.5, ""),
        ([GOOD] * 9, [peer(revision=11)], 60, ""),
        ([WRONG] * 4, [peer()], 2.5, "differs"),
        ([WRONG] * 2, [peer()], 2.5, ""),
        ([WRONG] * 9, [peer(agrees=False)], 2.5, ""),
        ([WRONG] * 9, [], 2.5, ""),
        ([WRONG] * 9, [peer()], 60, ""),
        ([WRONG, GOOD, WRONG, GOOD, WRONG], [peer()], 2.5, ""),
    ],
    ids=[
        "level", "behind", "not long enough", "behind and moving", "behind, moved, stuck", "the peer is not sure",
        "one of two is further", "loading", "stale and behind", "joined and got nothing", "alone",
        "frozen between looks", "differs", "may mend itself", "all differ alike", "differs alone",
        "differs, frozen between looks", "mends itself each time",
    ],
)  # fmt: skip
def test_why(mine: list[Status], peers: list[Receipt], step_s: float, why: str) -> None:
    assert looked(mine, peers, step_s).why == why


BEHIND = looked([GOOD] * 9, [peer(revision=11)])
WELL = looked([GOOD] * 9, [peer()])


@pytest.mark.parametrize(
    ("memory", "out", "peers", "wanted"),
    [
        (WELL, set(), [peer()], Turn.STAY),
        (BEHIND, set(), [peer()], Turn.LEAVE),
        (BEHIND, {"mx1"}, [peer()], Turn.STAY),
        (BEHIND, {"mx2"}, [peer()], Turn.LAST),
        (BEHIND, {"mx2"}, [peer(), peer("mx3")], Turn.LEAVE),
        (BEHIND, set(), [], Turn.LAST),
        (BEHIND, {"mx1"}, [], Turn.LAST),
        (BEHIND, set(), [peer(agrees=False)], Turn.LAST),
        (BEHIND, set(), [peer(state="stale")], Turn.LAST),
        (WELL, {"mx1"}, [peer()], Turn.RETURN),
        (look(BEHIND, GOOD, [peer()], 1023), {"mx1"}, [peer()], Turn.STAY),
        (look(BEHIND, GOOD, [peer()], 1023), {"mx1", "mx2"}, [peer()], Turn.RETURN),
    ],
    ids=[
        "well", "behind", "behind and out", "the other is out", "another one stays", "alone", "became the last",
        "the other is wrong", "the other is not sure", "well again", "well for a moment", "well, and needed",
    ],
)  # fmt: skip
def test_turn(memory: Memory, out: set[str], peers: list[Receipt], wanted: Turn) -> None:
    assert turn("mx1", memory, out, peers) is wanted


@dataclass
class Node:
    """A node of the simulation below: its store, and whether it takes sessions."""

    status: Status = GOOD
    members: frozenset[str] = frozenset()
    left: list[str] = field(default_factory=list)

    def leave(self, why: str) -> None:
        """As the follower does."""
        self.status = msgspec.structs.replace(self.status, out=why)


def test_whatever_happens_somebody_takes_mail() -> None:
    chance = random.Random(1)
    for _ in range(200):
        _simulate(chance, [f"mx{number}" for number in range(chance.choice((2, 3, 5)))])


def _simulate(chance: random.Random, names: list[str]) -> None:
    """Nodes lag, stand still, go wrong and fall silent; what each decides is written one at a time, as by the guard."""
    nodes = dict.fromkeys(names, GOOD)
    memories = dict.fromkeys(names, Memory())
    out: set[str] = set()
    for step in range(60):
        for name, status in nodes.items():
            moves = chance.random() < 0.8
            nodes[name] = msgspec.structs.replace(
                status,
                revision=status.revision + 3 * moves,
                published=chance.choice((GOOD.published, GOOD.published, status.published, WRONG.published)),
            )
        told = {name: peer(name, status.revision, agrees=status.agrees) for name, status in nodes.items()}
        heard = {name for name in names if chance.random() < 0.9}
        for name in chance.sample(names, len(names)):
            peers = [told[other] for other in heard - {name}]
            memories[name] = look(memories[name], nodes[name], peers, 1000 + step * 2.5)
            decided = turn(name, memories[name], out, peers)
            if decided is Turn.LEAVE:
                out.add(name)
            elif decided in (Turn.RETURN, Turn.LAST):
                out.discard(name)
        assert out != set(names)


async def test_of_two_that_want_to_leave_at_once_one_stays(place: config.Etcd) -> None:
    members = frozenset({"mx1", "mx2"})
    nodes = {name: Node(GOOD, members | {"ahead"}) for name in members}
    clock = iter(range(1000, 100_000, 2))
    now = 1000.0
    async with Etcd(place) as etcd:
        for name in members:
            await etcd.put(keys.receipt(name), msgspec.json.encode(peer(name)))
        ahead = msgspec.json.encode(peer("ahead", revision=11))
        await etcd.put(keys.receipt("ahead"), ahead)
        turns = {name: Rotation(name, node, lambda: now) for name, node in nodes.items()}
        for _ in range(6):
            now = float(next(clock))
            await asyncio.gather(*(each.look(etcd) for each in turns.values()))
        await etcd.delete(keys.receipt("ahead"))
        for node in nodes.values():
            node.members = members
        await etcd.put(keys.receipt("ahead"), ahead)
        await etcd.put(keys.ROTATION, b'["ahead"]')
        for node in nodes.values():
            node.members = members | {"ahead"}
        for _ in range(6):
            now = float(next(clock))
            await asyncio.gather(*(each.look(etcd) for each in turns.values()))
            assert sum(bool(node.status.out) for node in nodes.values()) <= 1
        assert sum(bool(node.status.out) for node in nodes.values()) == 1


async def test_a_node_that_stands_still_leaves_for_its_peer_and_comes_back_when_that_is_gone(
    place: config.Etcd, here: Path, run: Run
) -> None:
    node = run(follow(here, place))
    assert node.status().in_rotation, "nobody has said otherwise"
    async with Etcd(place) as etcd:
        members = [
            (keys.member(name), canonical(Member(name, "127.0.0.1", 1, "127.0.0.1", 1))) for name in ("mx1", "mx2")
        ]
        await published(etcd, 1, *members)
        await node.reaches(1)
        await etcd.put(keys.receipt("stranger"), msgspec.json.encode(peer("stranger", revision=99)))
        await etcd.put(keys.receipt("mx2"), msgspec.json.encode(peer("mx2", revision=9)))
        await until(lambda: not node.status().in_rotation, 20, "out of rotation")
        assert node.metric("syncd_follow_in_rotation") == 0
        assert msgspec.json.decode((await etcd.get(keys.ROTATION)).values()[keys.ROTATION]) == ["mx1"]
        assert node.events("out_of_rotation")[0]["why"] == "behind"
        await etcd.delete(keys.receipt("mx2"))
        await until(lambda: node.status().in_rotation, 10, "back in rotation")
        assert node.metric("syncd_follow_last_in_rotation") == 0
        await until(lambda: node.metric("syncd_follow_in_rotation") == 1)


def test_being_out_needs_fresh_proof() -> None:
    out = msgspec.structs.replace(GOOD, out="behind", out_until=monotonic() + 30, boot=boot_id())
    assert not out.in_rotation
    assert msgspec.structs.replace(out, out_until=monotonic() - 1).in_rotation
    assert msgspec.structs.replace(out, boot="another").in_rotation
    assert msgspec.structs.replace(out, out="").in_rotation
