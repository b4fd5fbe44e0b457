"""One process that parses (`mx.checks.mime_child`), seen from its worker: started, asked, killed."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

import msgspec

from monitoring import log
from mx.checks.mime_frames import LENGTH, READY, TIRED
from mx.filter import Message

START_S = 10.0
ANSWER_BYTES = 64 * 1024 * 1024

_log = log.get(__name__)
_decode = msgspec.msgpack.Decoder(Message).decode


class Broken(Exception):
    """The process gave no usable answer; the text says why."""


class ParserProcess:
    """One process, and the frames to and from it."""

    def __init__(self, process: Process) -> None:
        assert process.stdin
        assert process.stdout
        self._process, self._sink, self._source = process, process.stdin, process.stdout
        self.rested_at = 0.0

    @classmethod
    async def start(cls) -> "ParserProcess":
        """A new process, not yet ready. Raises Broken."""
        try:
            return cls(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "mx.checks.mime_child", str(os.getpid())),
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=DEVNULL,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
                    start_new_session=True,  # a signal to the worker's group is the worker's to answer
                )
            )
        except OSError as error:
            raise Broken(f"no parser could be started: {error.strerror}") from error

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it was not seen to end."""
        return self._process.returncode is None and not self._source.at_eof()

    async def ready(self) -> None:
        """Return once it takes messages. Raises Broken."""
        try:
            async with asyncio.timeout(START_S):
                state, _ = await self._frame()
        except TimeoutError as error:
            raise Broken(f"a parser did not start within {START_S:g} s") from error
        if state != READY:
            raise Broken("a parser did not start as it should")

    async def parse(self, raw: bytes) -> tuple[Message, bool]:
        """The message, and whether this was the process's last one. Raises Broken."""
        try:
            self._sink.write(LENGTH.pack(len(raw)))
            self._sink.write(raw)
            await self._sink.drain()
            state, body = await self._frame()
            return _decode(body), state == TIRED
        except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
            raise Broken(f"the parser broke on it: {type(error).__name__}") from error

    async def kill(self) -> None:
        """End it at once and wait until it is gone."""
        self._sink.close()
        try:
            self._process.send_signal(signal.SIGKILL)
        except ProcessLookupError:
            _log.debug("parser_was_gone", pid=self.pid)
        await self._process.wait()

    async def _frame(self) -> tuple[bytes, bytes]:
        try:
            (size,) = LENGTH.unpack(await self._source.readexactly(LENGTH.size))
            if not 0 < size <= ANSWER_BYTES:
                raise Broken("the parser gave no answer but rubbish")
            frame = await self._source.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise Broken("the parser died of it") from error
        return frame[:1], frame[1:]
