"""`python -m control.quarantine.page`: writes the table of search fields in docs/quarantine.md anew from their list."""

from pathlib import Path

from control.quarantine.grammar import FIELDS

PAGE = Path(__file__).parents[2] / "docs" / "quarantine.md"
BEGIN, END = "<!-- fields: begin -->\n", "<!-- fields: end -->\n"


def table() -> str:
    """A Markdown table of every field."""
    lines = ["| like | finds | takes |", "|---|---|---|"]
    lines += [f"| `{each.example}` | {each.finds} | {each.wants} |" for each in FIELDS]
    return "\n".join(lines) + "\n"


def renewed(text: str) -> str:
    """The page with its table as it has to be."""
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
