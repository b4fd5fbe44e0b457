"""docs/api.md is true: its examples are run in their order, its table is made from the declarations."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from control.api import page
from tests.control.api.conftest import Door, add_node

_BLOCK = re.compile(r"^```http\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Example:
    """One request of the page and what it says comes back; `holds` None: nothing is said."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    status: int
    holds: dict[str, Any] | None


def examples(text: str) -> Iterator[Example]:
    """The requests in the page's `http` blocks: a line with method and path, header fields, a body, "→ status {…}"."""
    for block in _BLOCK.findall(text):
        for part in block.strip().split("\n\n"):
            first, *middle, last = part.split("\n")
            method, path = first.split(" ", 1)
            fields = [line for line in middle if re.match(r"[A-Z][A-Za-z-]+: ", line)]
            body = "\n".join(line for line in middle if line not in fields)
            status, _, holds = last.removeprefix("→ ").partition(" ")
            named = {name.replace("-", "_"): value for name, value in (line.split(": ", 1) for line in fields)}
            held = msgspec.json.decode(holds) if holds else None
            yield Example(method, path, named, body.encode() or None, int(status), held)


async def test_the_examples_do_what_the_page_says(operator: Door, pool: Any) -> None:
    await add_node(pool, "mx1")
    found = list(examples(page.PAGE.read_text()))
    assert len(found) > 15
    for each in found:
        reply = await operator.call(each.method, each.path, each.body, **each.headers)
        assert reply.status == each.status, (each, reply.content)
        if each.holds:
            assert each.holds.items() <= reply.json.items(), (each, reply.content)


def test_the_table_is_fresh() -> None:
    text = page.PAGE.read_text()
    assert page.renewed(text) == text, "docs/api.md is stale: run `python -m control.api.page`"
