"""The quarantine's receiver: holds what nodes ship, has it stored in batches, and says so."""

from pathlib import Path

from syncd import config
from syncd.spool.stream import Stores


class Receiver:
    """Listens for nodes. Run it with `run`; `port` is the real one once `run` listens."""

    def __init__(self, directory: Path, stores: Stores, tls: config.Tls, host: str, port: int) -> None:
        self.port = port
        self.backlog = 0
        """Records held, not stored yet."""

    async def run(self) -> None:
        """Receive until cancelled."""
        raise NotImplementedError
