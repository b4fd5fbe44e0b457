"""A real database with two accounts, a domain each, and partitions of the last days."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from control.auth import Viewer
from control.quarantine import partitions
from tests.control.quarantine.rows import add_account

MINE, THEIRS = "A" * 26, "B" * 26
ME = Viewer("me@mine.test", MINE, "owner", "panel")
THEY = Viewer("they@theirs.test", THEIRS, "owner", "panel")
OPERATOR = Viewer("operator", None, "operator", "api")
DAYS = 5


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Any]:
    """A pool on a migrated database."""
    async with asyncpg.create_pool(database, min_size=0, max_size=8) as made:
        await add_account(made, MINE, "mine.test", "mine2.test")
        await add_account(made, THEIRS, "theirs.test")
        today = datetime.now(UTC).date()
        await partitions.make(made, (today + timedelta(days=n) for n in range(-DAYS, 2)))
        yield made
