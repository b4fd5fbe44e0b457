"""The HTTP API under `/api/v1` and the internal addresses for our own machinery."""

from quart import Quart


def register(app: Quart) -> None:
    """Register the API's blueprints."""
