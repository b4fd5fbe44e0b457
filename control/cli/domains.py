"""`mxctl domain`: what is served, and where its mail goes."""

from typing import Annotated, Any

import typer

from control.cli import waiting
from control.cli.api import Trouble, call
from control.cli.show import result, table

app = typer.Typer(help="Domains that are served.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The domain, e.g. example.org.")]


@app.command("list")
def listing() -> None:
    """The domains you may see."""
    items: list[dict[str, Any]] = []
    cursor = ""
    while cursor is not None:
        page = call("GET", "/domains", query={"limit": 1000, "cursor": cursor})
        items, cursor = items + page["items"], page["next"]
    rows = ((each["name"], ", ".join(_hop(hop) for hop in each["next_hops"]), each["revision"]) for each in items)
    result({"items": items}, table(("domain", "delivers to", "revision"), rows))


@app.command()
def show(name: Name) -> None:
    """One domain."""
    found = call("GET", f"/domains/{name}")
    lines = [f"{found['name']} of account {found['account']}, revision {found['revision']}"]
    result(found, lines + [f"  {hop['preference']:>3}  {_hop(hop)}  TLS {hop['tls']}" for hop in found["next_hops"]])


@app.command()
def create(
    name: Name,
    next_hop: Annotated[
        list[str], typer.Option(help="Server that takes its mail: host[:port][/tls]; repeat for more.")
    ],
    account: Annotated[str, typer.Option(help="Account that is to own it (operator).")] = "",
    wait: waiting.Wait = True,
) -> None:
    """Serve a domain."""
    hops = [parsed(each, preference=10 * number) for number, each in enumerate(next_hop, 1)]
    body = {"name": name, "next_hops": hops, **({"account": account} if account else {})}
    waiting.report(call("POST", "/domains", body, query=waiting.query(wait), operator=True), waited=wait)


@app.command("next-hops")
def next_hops(
    name: Name, hop: Annotated[list[str], typer.Argument(help="host[:port][/tls]")], wait: waiting.Wait = True
) -> None:
    """Deliver its mail elsewhere; the first server is tried first."""
    hops = [parsed(each, preference=10 * number) for number, each in enumerate(hop, 1)]
    waiting.report(call("PATCH", f"/domains/{name}", {"next_hops": hops}, query=waiting.query(wait)), waited=wait)


@app.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: waiting.Wait = True,
) -> None:
    """Serve a domain no longer; its kept mail expires in its time."""
    if not yes:
        typer.confirm(f"Mail to {name} is refused from then on. Delete it?", abort=True)
    waiting.report(call("DELETE", f"/domains/{name}", query=waiting.query(wait)), waited=wait)


def parsed(text: str, *, preference: int) -> dict[str, Any]:
    """A next hop as typed: "mail.example.org", "192.0.2.1:2525", "[2001:db8::1]:25/verified". Raises Trouble."""
    where, _, tls = text.partition("/")
    host, colon, port = where.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = where, "25"
    if not port.isdigit():
        raise Trouble(f"{text}: write a next hop like mail.example.org:25 or 192.0.2.1:2525/required", 2)
    return {"host": host.strip("[]"), "port": int(port), "tls": tls or "opportunistic", "preference": preference}


def _hop(hop: dict[str, Any]) -> str:
    return f"{hop['host']}:{hop['port']}"
