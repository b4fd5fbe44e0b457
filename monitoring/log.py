"""One structured event per line: JSON in files and pipes, coloured text on a terminal."""

import logging
import sys
from typing import Any, TextIO

import structlog

from monitoring.metrics.monitoring import log_lines_lost


class _Enduring:
    """A stream whose failures are counted and nothing else: a full disk must not stop the mail that it could log of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            log_lines_lost.inc()
            return 0

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            log_lines_lost.inc()


def configure(process: str, *, node: str = "") -> None:
    """Send structlog and stdlib logging of this process to stdout, one line per event.

    Values are JSON-escaped, so no byte of a message can start a second line (promise 8).
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    on_terminal = sys.stdout.isatty()
    renderer: Any = structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        logger_factory=structlog.PrintLoggerFactory(_Enduring(sys.stdout)),  # type: ignore[arg-type]
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    handler = logging.StreamHandler(_Enduring(sys.stdout))
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    bound = {"process": process, **({"node": node} if node else {})}
    structlog.contextvars.bind_contextvars(**bound)


def get(name: str) -> Any:
    """The logger of one module; `name` becomes the field `module`."""
    return structlog.get_logger(module=name)
