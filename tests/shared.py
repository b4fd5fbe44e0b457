"""Material that lies beside a checkout: vectors and corpora too large, or not ours, to be kept in it."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared_path(name: str) -> Path:
    """The path of `shared/<name>` beside the checkout; skips the test, by name, where it is absent."""
    path = Path(os.environ.get("SHARED_DIR", SHARED)) / name
    if not path.exists():
        pytest.skip(f"../shared/{name} is not beside this checkout")
    return path
