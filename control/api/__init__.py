"""The HTTP API under `/api/v1`, and the addresses under `/internal` for our own machinery."""

from quart import Quart

from control.api import serve


def register(app: Quart) -> None:
    """Register every declared operation and the internal addresses."""
    serve.register(app)
