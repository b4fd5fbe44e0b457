"""`/nodes`: the fleet, for the operator; and the way a new node joins it."""

import asyncio
from typing import Annotated

import msgspec
from msgspec import Meta

from control.api.operation import Answer, Asked, operation
from control.ca import Authority, BadRequest
from control.receipts import At
from control.store import layers, names, nodes
from control.store.errors import Invalid
from syncd.config import Control
from syncd.receipts import Receipt

Host = Annotated[str, Meta(min_length=1, max_length=253)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Node(msgspec.Struct, frozen=True):
    """A member: its place in the fleet, and what it last reported.

    `state` is its membership; `reports` is what its follow process says of itself, "unheard" when it never reported,
    "away" when it is not heard now. `agrees`: whether its content is what was published at its revision, null when
    that is unknown. `out`: why it takes no new sessions, "" while it does.
    """

    name: str
    state: str
    smtp: str
    spool: str
    reports: str
    revision: int | None
    behind: int | None
    agrees: bool | None
    age_s: float | None
    unreadable: int
    out: str


class Fleet(msgspec.Struct, frozen=True):
    """Every member, and the newest revision."""

    items: list[Node]
    revision: int


class JoinToken(msgspec.Struct, frozen=True):
    """A token that lets one node join, once, and the command that uses it."""

    token: str
    expires_in_s: float
    command: str


class Joining(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node tells when it joins. `scrape` maps each of its processes to its metrics URL; `csr` is PEM."""

    token: Annotated[str, Meta(min_length=1, max_length=200)]
    name: Annotated[str, Meta(min_length=1, max_length=32, description="a-z, 0-9 and hyphens, e.g. mx3")]
    spool_host: Host
    spool_port: Port
    smtp_host: Host
    smtp_port: Port
    csr: Annotated[str, Meta(min_length=1, max_length=16_384, description="Certificate request with a P-256 key.")]
    scrape: Annotated[
        dict[
            Annotated[str, Meta(pattern=r"^[a-z0-9]{1,20}$")], Annotated[str, Meta(max_length=300, pattern=r"^http://")]
        ],
        Meta(max_length=40),
    ] = {}


class Joined(msgspec.Struct, frozen=True):
    """What a node.toml needs, and the revision that the node has to pass before it is ready."""

    name: str
    cert: str
    ca: str
    etcd: list[str]
    receiver: str
    panel_url: str
    generation: int
    revision: int


class Membership(msgspec.Struct, frozen=True):
    """A node's new state in the fleet, and the revision that says so."""

    name: str
    state: str
    revision: int


@operation("GET", "/nodes", summary="The fleet", answers={200: Fleet}, audience="operator")
async def list_nodes(asked: Asked) -> Answer:
    """Every member, heard or not."""
    members = await nodes.listing(asked.pool)
    async with asked.pool.acquire() as connection:
        newest = await layers.newest(connection)
    receipts = asked.services.receipts
    heard, at = receipts.snapshot(), receipts.nodes(newest, [each.name for each in members])
    told = {name: each.receipt for name, each in heard.items()}
    shown = [_shown(each, at[each.name], newest.revision, told.get(each.name)) for each in members]
    return Answer(Fleet(shown, newest.revision))


@operation("POST", "/nodes/tokens", summary="Let one node join", answers={201: JoinToken}, audience="operator")
async def create_join_token(asked: Asked) -> Answer:
    """The token holds for a quarter of an hour and for one node."""
    token, life = await nodes.make_token(asked.pool, asked.viewer)
    command = f"mxctl node join {asked.services.settings.panel_url} --token {token}"
    return Answer(JoinToken(token, life.total_seconds(), command), 201)


@operation("POST", "/nodes/join", summary="Join the fleet", answers={201: Joined}, body=Joining, audience="anybody")
async def join_node(asked: Asked) -> Answer:
    """Needs no bearer token: the join token in the body is the right to join. The node's key never leaves it."""
    wanted: Joining = asked.body
    joining = nodes.Joining(
        names.node(wanted.name),
        names.host(wanted.spool_host, "spool_host"),
        wanted.spool_port,
        names.host(wanted.smtp_host, "smtp_host"),
        wanted.smtp_port,
        wanted.scrape,
    )
    await nodes.require_token(asked.pool, wanted.token)  # before the work of signing is done for a stranger
    settings = asked.services.settings
    cert, ca = await asyncio.to_thread(_sign, settings, joining, wanted.csr)
    generation, revision = await nodes.join(asked.pool, wanted.token, joining)
    receiver = f"{settings.receiver_host}:{settings.receiver_port}"
    etcd = list(settings.etcd.endpoints)
    return Answer(Joined(joining.name, cert, ca, etcd, receiver, settings.panel_url, generation, revision), 201)


@operation(
    "POST", "/nodes/{node}/drain", summary="Take a node out of service", answers={202: Membership}, audience="operator"
)
async def drain_node(asked: Asked) -> Answer:
    """It takes no more mail and ships what it holds. Harmless again."""
    name = asked.path["node"]
    return Answer(Membership(name, "draining", await nodes.drain(asked.pool, asked.viewer, name)), 202)


@operation(
    "DELETE", "/nodes/{node}", summary="Remove a node from the fleet", answers={200: Membership}, audience="operator"
)
async def remove_node(asked: Asked) -> Answer:
    """Drain it first: what its spool alone holds is not waited for."""
    name = asked.path["node"]
    return Answer(Membership(name, "removed", await nodes.remove(asked.pool, asked.viewer, name)))


def _shown(node: nodes.Node, at: At, newest: int, told: Receipt | None) -> Node:
    behind = None if at.revision is None else max(0, newest - at.revision)
    age_s = None if at.age_s is None else round(at.age_s, 2)
    smtp, spool = f"{node.smtp_host}:{node.smtp_port}", f"{node.spool_host}:{node.spool_port}"
    unreadable, out = (len(told.unreadable), told.out) if told else (0, "")
    return Node(node.name, node.state, smtp, spool, at.state, at.revision, behind, at.agrees, age_s, unreadable, out)


def _sign(settings: Control, joining: nodes.Joining, csr: str) -> tuple[str, str]:
    """(certificate, CA certificate), PEM. Raises Invalid for what is no request that can be signed."""
    authority = Authority.load(settings.ca_cert, settings.ca_key)
    try:
        signed = authority.sign_node(csr.encode(), joining.name, hosts=(joining.spool_host,))
    except BadRequest as error:
        raise Invalid("csr", str(error)) from error
    return signed.decode(), authority.cert_pem.decode()
