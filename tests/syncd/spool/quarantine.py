"""`python -m tests.syncd.spool.quarantine DIRECTORY PORT TLS`: a real receiver whose quarantine is one file.

Every stored record is a line in DIRECTORY/stored, on disk before it is acknowledged. While DIRECTORY/away exists
nothing can be stored, as when PostgreSQL is away.
"""

import asyncio
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from control.local.configs import tls_files
from monitoring import log
from syncd.spool.ranges import Positions
from syncd.spool.receive import Receiver
from syncd.spool.stream import Held, NotNow, Ranges, Stream


class FileStores:
    """The quarantine as a file (`syncd.spool.stream.Stores`)."""

    def __init__(self, directory: Path) -> None:
        self._path, self._away = directory / "stored", directory / "away"
        self._stored: dict[Stream, Positions] = {}
        for line in self._path.read_bytes().split(b"\n")[:-1] if self._path.exists() else ():
            found = msgspec.json.decode(line)
            stream, ranges = Stream(found["node"], found["epoch"]), found.get("withdrawn")
            self._stored.setdefault(stream, Positions()).update(ranges or [(found["position"], found["position"])])

    async def stored(self, stream: Stream) -> Ranges:
        """What is in the file."""
        self._be_there()
        return self._stored.get(stream, Positions()).ranges()

    async def withdraw(self, stream: Stream, ranges: Ranges) -> None:
        """Write that these are none."""
        self._be_there()
        line = {"node": stream.node, "epoch": stream.epoch, "withdrawn": ranges}
        await asyncio.to_thread(self._write, [msgspec.json.encode(line) + b"\n"])
        self._stored.setdefault(stream, Positions()).update(ranges)

    async def store(self, batch: Sequence[Held]) -> None:
        """Append what is not there yet."""
        self._be_there()
        await asyncio.to_thread(self._append, batch)
        for held in batch:
            self._note(held.stream, held.position)

    def _append(self, batch: Sequence[Held]) -> None:
        lines = []
        for held in batch:
            if held.position in self._stored.get(held.stream, ()):
                continue
            record, body = msgspec.json.decode(held.header), held.read_body()
            line = {"node": held.stream.node, "epoch": held.stream.epoch, "position": held.position}
            line |= {"id": record["id"], "kind": record["kind"], "sha256": hashlib.sha256(body).hexdigest()}
            lines.append(msgspec.json.encode(line) + b"\n")
        self._write(lines)

    def _write(self, lines: Sequence[bytes]) -> None:
        with self._path.open("ab") as file:
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())

    def _be_there(self) -> None:
        if self._away.exists():
            raise NotNow("away")

    def _note(self, stream: Stream, position: int) -> None:
        self._stored.setdefault(stream, Positions()).add(position)


async def main(directory: Path, port: int, tls: Path) -> None:
    """Receive until killed."""
    receiver = Receiver(directory / "journal", FileStores(directory), tls_files(tls), "127.0.0.1", port)
    await receiver.run()


if __name__ == "__main__":
    log.configure("receiver")
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
