"""Looks after what no part of the cluster does itself: zone files that changed, logs that have grown.

Run by supervisord as `caretaker`.
"""

import time

from control.local import arguments, logs, zones
from control.local.layout import Layout
from monitoring import log

ZONES_EVERY_S = 0.3
LOGS_EVERY_S = 30.0

_log = log.get(__name__)


def main() -> None:
    """Look until ended."""
    layout = arguments.layout(__doc__)
    log.configure("caretaker")
    watch = zones.Watch(layout)
    next_logs = time.monotonic()
    while True:
        watch.look()
        if time.monotonic() >= next_logs:
            next_logs = time.monotonic() + LOGS_EVERY_S
            _look_at_logs(layout)
        time.sleep(ZONES_EVERY_S)


def _look_at_logs(layout: Layout) -> None:
    try:
        if cut := logs.rotate(layout.var / "log"):
            _log.info("logs rotated", files=cut)
    except OSError as error:
        _log.error("logs not rotated", error=str(error))


if __name__ == "__main__":
    main()
