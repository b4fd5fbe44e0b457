"""A log event is one line of JSON, whatever bytes it carries (promise 8)."""

import json
import subprocess
import sys

PROGRAM = """
import logging
from monitoring import log
log.configure("worker1", node="mx1")
log.get("test").info("mail", sender="a\\r\\nforged: line", raw="\\x00\\x1b[31m\\u2028", qid="01J")
logging.getLogger("library").warning("two\\nlines")
try:
    raise ValueError("bad\\nthing")
except ValueError:
    log.get("test").exception("failed")
"""


def test_one_event_is_one_line_of_json() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    events = [json.loads(line) for line in done.stdout.split(b"\n") if line]
    assert [event["event"] for event in events] == ["mail", "two\nlines", "failed"]
    assert all(event["process"] == "worker1" and event["node"] == "mx1" for event in events)
    assert events[0]["sender"] == "a\r\nforged: line"
    assert "ValueError: bad" in events[2]["exception"]


FULL = """
import sys
from monitoring import log
from monitoring.metrics.monitoring import log_lines_lost
log.configure("worker1")
for number in range(3):
    log.get("test").info("mail", number=number)
print(log_lines_lost._value.get(), file=sys.stderr)
"""


def test_a_full_disk_stops_nothing_that_would_log() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-u", "-c", FULL], stdout=full, stderr=subprocess.PIPE, check=True)
    assert float(done.stderr) >= 3
