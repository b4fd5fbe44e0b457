"""`mxctl account`: customers and their tokens (operator)."""

from typing import Annotated

import typer

from control.cli.api import call
from control.cli.show import result, table

app = typer.Typer(help="Accounts and their tokens (operator).", no_args_is_help=True)


@app.command("list")
def listing() -> None:
    """The accounts."""
    page = call("GET", "/accounts", query={"limit": 1000}, operator=True)
    rows = ((each["id"], each["name"], each["created_at"][:10]) for each in page["items"])
    result(page, table(("id", "name", "since"), rows))


@app.command()
def create(name: Annotated[str, typer.Argument(help="What to call it.")]) -> None:
    """Make an account."""
    made = call("POST", "/accounts", {"name": name}, operator=True)
    result(made, made["id"])


@app.command()
def token(
    account: Annotated[str, typer.Argument(help="Id of the account.")],
    name: Annotated[str, typer.Option(help="What it is for; the history shows it.")] = "mxctl",
) -> None:
    """Make a bearer token that sees all of the account; it is shown this once."""
    made = call("POST", f"/accounts/{account}/tokens", {"name": name}, operator=True)
    result(made, made["token"])
