"""`mxctl`: the fleet from a terminal, through the API that everybody has.

Where the API is and who asks: MXCTL_URL and MXCTL_TOKEN, or `demo.json` in VAR (default `var`) of a cluster started by
`make up`.
`--json` anywhere prints the API's answer as JSON. Exit status: 0 done; 1 it was done but something is not as it should
be (nodes awaited, a release failed, doctor found trouble); 2 wrong usage; 3 the API does not answer; 4 the API refused;
5 the API's own side failed.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from control.cli import accounts, acts, domains, fleet, lists, nodes, quarantine, settings, spool
from control.cli.api import Trouble
from control.cli.show import OUTPUT, complain

app = typer.Typer(
    name="mxctl",
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(domains.app, name="domain")
app.add_typer(settings.app, name="settings")
app.add_typer(lists.app, name="list")
app.add_typer(acts.app, name="quarantine")
app.add_typer(nodes.app, name="node")
app.add_typer(accounts.app, name="account")
app.add_typer(spool.app, name="spool")
app.command("trace")(quarantine.trace)
app.command("doctor")(fleet.doctor)
app.command("status")(fleet.status)
app.command("restore")(fleet.restore)


@app.callback()
def options(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; may stand anywhere on the line.")] = False,
) -> None:
    """What holds for every command."""
    OUTPUT.json = as_json


def hoisted(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--json`, wherever it stands before a `--`, put first, where the parser expects it."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    before, rest = list(arguments[:end]), list(arguments[end:])
    asked = "--json" in before
    return [*(["--json"] if asked else []), *(each for each in before if each != "--json"), *rest]


def main() -> None:
    """Run one command and end the process with its exit status."""
    try:
        app(hoisted(sys.argv[1:]))
    except Trouble as trouble:
        complain(trouble)
        sys.exit(trouble.exit_status)
