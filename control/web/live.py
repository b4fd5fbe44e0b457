"""Where a change of a domain stands on the nodes: what the propagation line and its event stream show."""

from dataclasses import replace

from control.app import services
from control.receipts import Target
from control.store import layers
from control.store.layers import Written
from control.web import shell, spread


async def target(domain: str, revision: int) -> Written:
    """A change of a domain as something to wait for. Raises Missing for a domain the viewer may not see."""
    async with shell.pool().acquire() as connection:
        layer = await layers.load(connection, shell.viewer(), "domain", domain)
        present = await layers.present(connection, layer)
    return replace(present, revision=revision)


def committed(written: Written) -> None:
    """Note a change made here just now, so that its way to the nodes is timed."""
    if written.changed:
        services().receipts.committed(written, written.asked_at)


def of(wanted: Target) -> spread.Spread:
    """Where each member stands now."""
    at = services().receipts.nodes(wanted)
    nodes = [spread.At(name, each.applied, each.ms, each.age_s, each.revision) for name, each in at.items()]
    return spread.spread(wanted.revision, nodes)


async def saved(domain: str, text: str) -> spread.Spread | None:
    """The line of the revision that an address names; None when it names none."""
    revision = number(text)
    return of(await target(domain, revision)) if revision else None


def number(text: str) -> int:
    """A revision in an address; 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
