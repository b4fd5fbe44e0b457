"""The web application: the API and the panel in one Quart app, and the services that both use."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from quart import Quart, current_app

from control.quarantine.packs import Packs
from control.receipts import Receipts
from syncd.config import Control

MAX_BODY_BYTES = 32 * 1024 * 1024
"""A list of 200,000 recipients with settings fits; what is larger is no request of ours."""
BODY_TIMEOUT_S = 60


@dataclass(slots=True)
class Services:
    """What request handlers work with; `app.extensions["mxfleet"]`.

    `pool` is an asyncpg pool, `packs` the object store of mail bodies (None where there is none), `stopping`
    is set when the panel ends: event streams watch it and close.
    """

    settings: Control
    pool: Any
    receipts: Receipts
    packs: Packs | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


def create_app(settings: Control, *, services: Services) -> Quart:
    """The application with every blueprint; it opens nothing, so that it can be made without any neighbour."""
    from control import api, web

    app = bare_app(services)
    api.register(app)
    web.register(app)
    return app


def bare_app(services: Services) -> Quart:
    """The application without any address."""
    app = Quart("control", static_folder="web/static", static_url_path="/static", template_folder="web/templates")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT_S
    app.extensions["mxfleet"] = services
    return app


def services() -> Services:
    """The services of the application whose request is being answered."""
    found: Services = current_app.extensions["mxfleet"]
    return found
