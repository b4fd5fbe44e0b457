"""The process that parses: a message in, a `Message` out, over its standard input and output, until that ends.

Started by `mx.parser`, which kills it when it is late; so it keeps nothing between messages and needs
no clean end. It limits itself as well: memory, processor time a message, and it dies with its parent.
"""

import ctypes
import os
import resource
import signal
import sys
from typing import BinaryIO

import msgspec

from mx.checks import mime
from mx.checks.mime_frames import DONE, LENGTH, READY, TIRED
from mx.filter import Message

MEMORY_BYTES = 640 * 1024 * 1024
"""Address space. A mail of 50 MB, the largest a node takes, needs some 300 MB while it is taken apart."""
PROCESSOR_S = 4
"""Of one message; the parent's clock is shorter, this one counts if the parent is stopped."""
TIRED_AT_BYTES = 100 * 1024 * 1024
"""A process that holds so much after its answer ends: it will not give it back by itself."""

_PR_SET_PDEATHSIG = 1
_encode = msgspec.msgpack.Encoder().encode


def main() -> None:
    """Answer messages until standard input ends, framed as `mime_frames` says."""
    _bind_to_parent(int(sys.argv[1]))
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _send(sink, READY, b"")
    while len(head := source.read(LENGTH.size)) == LENGTH.size:
        _allow(PROCESSOR_S)
        answer, is_tired = _answer(source, LENGTH.unpack(head)[0])
        _send(sink, TIRED if is_tired else DONE, answer)
        if is_tired:
            return


def _answer(source: BinaryIO, size: int) -> tuple[bytes, bool]:
    try:
        raw = source.read(size)
        answer = _encode(mime.parse(raw))
    except MemoryError:
        return _encode(Message((), (), size, unchecked="it needs too much memory")), True
    except Exception as error:  # noqa: BLE001 - a wall: what breaks a parser is an everyday event (promise 8)
        return _encode(Message((), (), size, unchecked=f"the parser failed on it: {type(error).__name__}")), True
    return answer, _resident_bytes() > TIRED_AT_BYTES


def _resident_bytes() -> int:
    """Memory held now. Not `ru_maxrss`: that begins with what the worker had when it started us."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _send(sink: BinaryIO, state: bytes, body: bytes) -> None:
    sink.write(LENGTH.pack(1 + len(body)) + state + body)
    sink.flush()


def _allow(seconds: int) -> None:
    """Processor time for one more message, from now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds)


def _limit(kind: int, wanted: int) -> None:
    """Set a soft limit, within what whoever started the node allows."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _bind_to_parent(parent: int) -> None:
    """Be killed when the parent ends, even while stopped; the end of standard input alone would not do that."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)  # it was gone before we could ask


if __name__ == "__main__":
    main()
