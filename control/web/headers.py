"""What every answer of the panel carries: request id and security headers; HTTP counters."""

import secrets
import time

from quart import Quart, Response, g, request

from monitoring.metrics import control as metrics

CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "frame-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
MAIL_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'self'"
"""For the framed mail alone: no script, no network, an origin of its own; its own inline styles may colour it."""

STATIC_AGE_S = 86400
API = "/api/"


def register(app: Quart) -> None:
    """Count, time and harden every request of the panel; the API's answers keep the headers it set."""

    @app.before_request
    async def begin() -> None:
        g.begun = time.monotonic()
        g.request_id = secrets.token_hex(6)

    @app.after_request
    async def end(response: Response) -> Response:
        _count(response.status_code)
        response.headers.setdefault("X-Request-Id", g.get("request_id", ""))
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "same-origin")
        response.headers.setdefault("Content-Security-Policy", CSP)
        response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        if request.path.startswith("/static/"):
            response.headers["Cache-Control"] = f"public, max-age={STATIC_AGE_S}"
        elif not request.path.startswith(API):
            response.headers.setdefault("Cache-Control", "no-store")
        return response


def _count(status: int) -> None:
    if request.path.startswith(API):
        return
    metrics.http_requests.labels("panel", f"{status // 100}xx").inc()
    metrics.http_seconds.labels("panel").observe(time.monotonic() - g.get("begun", time.monotonic()))
