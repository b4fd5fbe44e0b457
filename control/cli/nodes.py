"""`mxctl node`: the fleet, and how a node joins it."""

from pathlib import Path
from typing import Annotated

import typer

from control.cli import joining
from control.cli.api import ask_at, call
from control.cli.show import result, table

app = typer.Typer(help="The nodes of the fleet (operator).", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The node, e.g. mx3.")]


@app.command("list")
def listing() -> None:
    """Every member, heard or not."""
    fleet = call("GET", "/nodes", operator=True)
    rows = (
        (
            each["name"],
            each["state"],
            each["smtp"],
            each["reports"],
            each["revision"],
            each["behind"],
            each["agrees"],
            age(each["age_s"]),
        )
        for each in fleet["items"]
    )
    columns = ("node", "state", "smtp", "reports", "revision", "behind", "agrees", "last report")
    result(fleet, table(columns, rows))


@app.command()
def token() -> None:
    """A token that lets one node join, once, within a quarter of an hour."""
    made = call("POST", "/nodes/tokens", {}, operator=True)
    result(made, [made["token"], f"On the new node: {made['command']} --name … --directory …"])


@app.command()
def drain(name: Name) -> None:
    """Let it take no more mail and ship what it holds."""
    made = call("POST", f"/nodes/{name}/drain", {}, operator=True)
    result(made, f"{name} is draining, revision {made['revision']}")


@app.command()
def remove(name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Take it out of the fleet; drain it first."""
    if not yes:
        typer.confirm(f"What {name}'s spool alone holds is lost to the quarantine. Remove it?", abort=True)
    made = call("DELETE", f"/nodes/{name}", operator=True)
    result(made, f"{name} is removed, revision {made['revision']}")


@app.command()
def join(
    panel: Annotated[str, typer.Argument(help="Address of the panel.")],
    token: Annotated[str, typer.Option(help="From `mxctl node token`.")],
    name: Annotated[str, typer.Option(help="a-z, 0-9 and hyphens, e.g. mx3")],
    directory: Annotated[Path, typer.Option(help="Where this node's configuration, keys and state are to lie.")],
    hostname: Annotated[str, typer.Option(help="Name in the banner; default: the node's name.")] = "",
    host: Annotated[str, typer.Option(help="Address at which peers and senders reach it.")] = "127.0.0.1",
    smtp_port: Annotated[int, typer.Option(min=1, max=65535)] = 25,
    spool_port: Annotated[int, typer.Option(min=1, max=65535)] = 7125,
    resolver: Annotated[list[str] | None, typer.Option(help="Name server as host:port; repeat for more.")] = None,
    metrics_port: Annotated[int, typer.Option(help="First of four ports: two workers, follow, spool.")] = 9125,
) -> None:
    """Make this machine a node: its key is made here and stays here."""
    node = joining.Place(name, hostname or name, host, smtp_port, spool_port, metrics_port, tuple(resolver or ()))
    key, body = joining.request(node, token)
    answer = ask_at(panel, "POST", "/nodes/join", body).json()
    config = joining.write(directory, node, key, answer)
    lines = [
        f"{name} has joined at revision {answer['revision']}. Start its processes:",
        *joining.commands(config, node),
    ]
    result({"config": str(config), **{field: answer[field] for field in ("name", "revision")}}, lines)


def age(seconds: float | None) -> str:
    """The age of a report."""
    return "never" if seconds is None else f"{seconds:.1f} s ago"
