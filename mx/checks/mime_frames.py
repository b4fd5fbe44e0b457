"""What goes between a worker and the process that parses for it. Small, so that the worker imports no parser."""

import struct

LENGTH = struct.Struct("!I")
"""Before each frame: how many bytes follow. To the process: one raw message. Back: state, then msgpack of `Message`."""

READY, DONE, TIRED = b"r", b"d", b"t"
"""State: at start; an answer; the last answer of this process, which ends after it."""
