"""Which peers a node asks for a second copy, and in which order: rendezvous over the last known members."""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from monitoring import log
from syncd import keys
from syncd.lastgood import DIRECTORY, NotHere, Reader
from syncd.layers import Member
from syncd.published import Unreadable, opened
from syncd.spool.identity import is_name, node_uri
from syncd.spool.link import Target

READ_S = 2.0

_log = log.get(__name__)


def ranked(node: str, members: Iterable[Member]) -> tuple[Target, ...]:
    """The peers of a node, the first choice first. Pure.

    Highest random weight (Thaler and Ravishankar 1998): when a member comes or goes, no other pair changes its order.
    """
    peers = [each for each in members if each.state != "drained" and each.node != node and is_name(each.node)]
    peers.sort(key=lambda peer: hashlib.blake2b(f"{node}\0{peer.node}".encode(), digest_size=8).digest(), reverse=True)
    return tuple(Target(peer.node, peer.spool_host, peer.spool_port, node_uri(peer.node)) for peer in peers)


class Members:
    """The peers as the last-known-good store names them; what was read last while it cannot be read."""

    def __init__(self, node: str, state_dir: str) -> None:
        self._node = node
        self._reader = Reader(Path(state_dir) / DIRECTORY)
        self._peers: Sequence[Target] = ()

    def peers(self) -> Sequence[Target]:
        """The peers, the first choice first."""
        return self._peers

    def look(self) -> None:
        """Read the members again. Some µs."""
        try:
            with self._reader.reading() as view:
                found = view.below(keys.MEMBERS)
        except NotHere:
            return  # no members known, or for the moment: what we had is the best there is
        members = []
        for key, value in found.items():
            try:
                members.append(msgspec.json.decode(opened(key, value), type=Member))
            except (Unreadable, msgspec.MsgspecError) as error:
                _log.error("member_unreadable", key=key, error=str(error))
        peers = ranked(self._node, members)
        if peers != self._peers:
            _log.info("peers", names=[peer.name for peer in peers])
            self._peers = peers

    async def follow(self) -> None:
        """Look every few seconds, until cancelled."""
        try:
            while True:
                self.look()
                await asyncio.sleep(READ_S)
        finally:
            self._reader.close()
