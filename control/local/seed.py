"""The demo's data, brought in through the front door: domains by the API, mail by SMTP through the nodes."""

from typing import Any

from control.local.layout import Layout

DOMAIN = "example.test"
SHOP = "shop.test"


def run(layout: Layout, seeds: dict[str, Any]) -> None:
    """Seed what is not there yet."""
