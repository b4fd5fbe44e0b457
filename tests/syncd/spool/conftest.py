"""An installation with its certificates, and a receiver that runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.syncd.running import until
from tests.syncd.spool.journals import Place
from tests.syncd.spool.parts import Installation, Quarantine, quarantine


@pytest.fixture
def installation(here: Path) -> Installation:
    """Certificates of one installation."""
    return Installation(here)


@pytest.fixture
async def receiver(installation: Installation, run: Callable[[Any], Any]) -> Quarantine:
    """A receiver that listens."""
    started: Quarantine = run(quarantine(installation))
    await until(started.listens, why="the receiver to listen")
    return started


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A journal's directory, empty."""
    return Place(tmp_path)
