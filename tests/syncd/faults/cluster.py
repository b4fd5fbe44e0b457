"""Three etcd members on loopback."""

from pathlib import Path
from types import TracebackType
from typing import Self

from syncd import config
from syncd.etcd import Etcd as Client
from tests.servers import Etcd, free_port

NAMES = ("one", "two", "three")


class _Member(Etcd):
    """One of them: it answers as soon as it listens, for it serves only with a second one."""

    def __init__(self, directory: Path, name: str, peers: dict[str, int]) -> None:
        super().__init__(directory)
        self._name, self._peers = name, peers

    def command(self) -> list[str]:
        client, peer = f"http://{self.endpoint}", f"http://127.0.0.1:{self._peers[self._name]}"
        members = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in self._peers.items())
        return [
            self.server,
            f"--name={self._name}",
            f"--data-dir={self.directory / 'data'}",
            f"--initial-cluster={members}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
        ]

    def answers(self) -> bool:
        return not self.waits or super().answers()

    waits = False


class Cluster:
    """All of them; `place` names every endpoint."""

    def __init__(self, directory: Path) -> None:
        peers = {name: free_port() for name in NAMES}
        self.members: list[_Member] = []
        for name in NAMES:
            (directory / name).mkdir(parents=True)
            self.members.append(_Member(directory / name, name, peers))
        self.place = config.Etcd(endpoints=tuple(member.endpoint for member in self.members))

    def __enter__(self) -> Self:
        for member in self.members:
            member.start()
        for member in self.members:
            member.waits = True
            member.wait_until_answers()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for member in self.members:
            member.stop()

    async def leader(self) -> Etcd:
        """The member that leads now."""
        for member in self.members:
            async with Client(config.Etcd(endpoints=(member.endpoint,))) as client:
                status = await client.status()
                if status.leader == status.header.member_id:
                    return member
        raise AssertionError("nobody leads")
