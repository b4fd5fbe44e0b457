"""`python -m control.api.page`: writes the table of operations in docs/api.md anew from the declarations."""

from pathlib import Path

from control.api import serve
from control.api.operation import OPERATIONS, Operation

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
BEGIN, END = "<!-- operations: begin -->\n", "<!-- operations: end -->\n"
WHO = {"viewer": "", "operator": "operator", "anybody": "no token"}


def table() -> str:
    """A Markdown table of every declared operation, by path."""
    lines = ["| call | what | who |", "|---|---|---|"]
    lines += [_line(each) for each in sorted(OPERATIONS, key=lambda each: each.path)]
    return "\n".join(lines) + "\n"


def renewed(text: str) -> str:
    """The page with its table as it has to be."""
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + table() + END + rest.partition(END)[2]


def _line(each: Operation) -> str:
    return f"| `{each.method} {each.path}` | {each.summary} | {WHO[each.audience]} |"


if __name__ == "__main__":
    assert serve.DECLARING, "the operations are declared by importing their modules"
    PAGE.write_text(renewed(PAGE.read_text()))
