"""docs/spool-protocol.md shows the tables as they are, and names tests that exist."""

import re
from pathlib import Path

from syncd.spool.drawing import BEGIN, END, drawing
from syncd.spool.frames import Kind
from syncd.spool.messages import Code

HERE = Path(__file__).parent
PAGE = Path(__file__).resolve().parents[3] / "docs" / "spool-protocol.md"


def test_the_drawing_is_made_from_the_tables() -> None:
    text = PAGE.read_text()
    shown = text[text.index(BEGIN) : text.index(END) + len(END)]
    assert shown == drawing(), "stale: put in what `python -m syncd.spool.drawing` prints"


def test_every_message_and_every_refusal_is_explained() -> None:
    text = PAGE.read_text()
    explained = text.replace(drawing(), "")
    assert [kind.name for kind in Kind if not re.search(rf"\b{kind.name}\b", explained)] == []
    assert [code.value for code in Code if f"`{code.value}`" not in explained] == []


def test_the_tests_that_it_names_exist() -> None:
    text = PAGE.read_text()
    sources = {path.name: path.read_text() for path in HERE.glob("test_*.py")}
    for name in re.findall(r"\b(test_\w+\.py)\b", text):
        assert name in sources
    for name in re.findall(r"\b(test_\w+)\b(?!\.py)", text):
        assert any(f"def {name}(" in source for source in sources.values()), name
