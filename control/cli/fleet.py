"""`mxctl status` and `mxctl doctor`: how the fleet is, and what is wrong with it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from control.cli import nodes
from control.cli.api import Trouble, call, place
from control.cli.show import result, table

OLD_REPORT_S = 10.0
"""The life of a receipt's lease: an older report is no news of the node (design, section 5)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` is "" when it is well."""

    what: str
    found: str
    advice: str = ""

    @property
    def well(self) -> bool:
        """Whether it is as it should be."""
        return not self.advice


def restore(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """After PostgreSQL was restored: publish what it holds now (operator)."""
    if not yes:
        typer.confirm(
            "Changes made since the backup are then lost on every node. Publish what is there now?", abort=True
        )
    answer = call("POST", "/restore", query={"wait": "applied", "timeout": 30}, operator=True)
    awaited = f"; awaiting {', '.join(answer['awaited'])}" if answer["awaited"] else ", live on every node"
    result(answer, f"Generation {answer['generation']} begins with revision {answer['revision']}{awaited}")
    if not answer["applied"]:
        raise typer.Exit(1)


def status() -> None:
    """The newest revision, and every node's."""
    fleet = call("GET", "/nodes", operator=True)
    rows = (
        (each["name"], each["state"], each["reports"], each["revision"], nodes.age(each["age_s"]))
        for each in fleet["items"]
    )
    result(fleet, table(("node", "state", "reports", "revision", "last report"), rows))


def doctor() -> None:
    """Look at everything that can be seen from here; exit status 1 when something is wrong."""
    findings = list(_looked())
    shown = [{"what": each.what, "found": each.found, "advice": each.advice, "well": each.well} for each in findings]
    rows = (("ok" if each.well else "WRONG", each.what, each.found, each.advice) for each in findings)
    result(
        {"findings": shown, "well": all(each.well for each in findings)}, table(("", "what", "found", "advice"), rows)
    )
    if not all(each.well for each in findings):
        raise typer.Exit(1)


def _looked() -> Iterable[Finding]:
    url, _ = place()
    answer, finding = _try("panel and database", lambda: call("GET", "/domains", query={"limit": 1000}))
    yield finding or Finding("panel and database", f"{url} answers, {len(answer['items'])} domains")
    fleet, finding = _try("fleet", lambda: call("GET", "/nodes", operator=True))
    yield finding or _fleet(fleet)
    for node in (fleet or {"items": ()})["items"]:
        yield judged(node)
    kept, finding = _try("quarantine", lambda: call("GET", "/quarantine", query={"limit": 1}))
    yield finding or Finding(
        "quarantine", f"newest mail of {kept['items'][0]['received_at']}" if kept["items"] else "empty"
    )


def judged(node: dict[str, Any]) -> Finding:
    """How a node is by its last report."""
    what = f"node {node['name']}"
    found = f"{node['state']}, {node['reports']}, revision {node['revision']}, report {nodes.age(node['age_s'])}"
    troubles = (
        (node["age_s"] is None, "it never reported: is its follow process running, does it reach etcd?"),
        (
            node["age_s"] is not None and node["age_s"] > OLD_REPORT_S,
            "its report is old: is it down or cut off from etcd?",
        ),
        (node["reports"] not in ("live", "unheard"), "it does not follow etcd; it judges by what it last knew"),
        (node["agrees"] is False, "its content is not what was published: restart its follow process, keep its files"),
        (
            bool(node["unreadable"]),
            f"{node['unreadable']} values it cannot read: is its version older than the panel's?",
        ),
        (bool(node["behind"]), f"{node['behind']} revisions behind: look at the publisher and at its follow process"),
    )
    return Finding(what, found, next((advice for wrong, advice in troubles if wrong), ""))


def _fleet(fleet: dict[str, Any]) -> Finding:
    count = len(fleet["items"])
    advice = "" if count else "no node has joined: `mxctl node token`"
    return Finding("fleet", f"{count} nodes, newest revision {fleet['revision']}", advice)


def _try(what: str, look: Callable[[], Any]) -> tuple[Any, Finding | None]:
    try:
        return look(), None
    except Trouble as trouble:
        return None, Finding(what, "no answer", str(trouble))
