"""`/metrics`, `/live` and `/ready` of one process, served from a thread of its own.

A thread, so that a scrape is answered while the event loop is busy, and so that a stuck loop
shows: `/live` turns 503 when the loop has not beaten for `STUCK_S`.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

STUCK_S = 10.0
BEAT_S = 1.0

Ready = Callable[[], str]
"""Returns "" when ready, else the reason why not, in words for an operator."""


class Exporter:
    """Serves the default registry on `host:port` until `close`; with port 0, on the free `port` it found."""

    def __init__(self, host: str, port: int, ready: Ready = lambda: "") -> None:
        self._beat = time.monotonic()
        self._server = ThreadingHTTPServer((host, port), _handler(self._stuck, ready))
        self._server.daemon_threads = True
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="exporter", daemon=True).start()

    async def beat(self) -> None:
        """Run for ever beside the process's work; proves that its event loop turns."""
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(BEAT_S)

    def close(self) -> None:
        """Stop serving; waits for the request under way."""
        self._server.shutdown()
        self._server.server_close()

    def _stuck(self) -> str:
        silent_s = time.monotonic() - self._beat
        return f"event loop silent for {silent_s:.0f} s" if silent_s > STUCK_S else ""


def _handler(stuck: Ready, ready: Ready) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(), CONTENT_TYPE_LATEST)
            elif self.path in ("/live", "/ready"):
                why = stuck() or (ready() if self.path == "/ready" else "")
                self._answer(503 if why else 200, (why or "ok").encode() + b"\n", "text/plain; charset=utf-8")
            else:
                self._answer(404, b"try /metrics, /live or /ready\n", "text/plain; charset=utf-8")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Scrapes are not news."""

    return Handler
