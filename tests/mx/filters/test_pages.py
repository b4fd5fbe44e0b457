"""Generated pages are committed, and stale ones are named."""

import subprocess
import sys
from pathlib import Path

import pytest

from mx.filters import ORDER
from mx.filters.describe import page

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("module", "name"), [("mx.filters.describe", "filters.md"), ("monitoring.describe", "metrics.md")]
)
def test_the_page_says_what_the_declarations_say(module: str, name: str) -> None:
    """In a process of its own: labels that other tests made would be on the page of metrics."""
    made = subprocess.run([sys.executable, "-m", module], cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert made.stdout == (ROOT / "docs" / name).read_bytes(), f"docs/{name} is stale: run `make docs`"


def test_the_page_has_every_filter_in_its_order() -> None:
    headings = [line.removeprefix("## ") for line in page().splitlines() if line.startswith("## ")]
    assert [name for name in headings if name in {one.name for one in ORDER}] == [one.name for one in ORDER]


def test_no_line_of_prose_is_too_long_to_be_read() -> None:
    assert not [line for line in page().splitlines() if len(line) > 120 and not line.startswith("|")]
