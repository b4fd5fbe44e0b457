"""`/domains`: what is served, for whom, and where its mail goes."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from control import ownership
from control.api import applied
from control.api.applied import CHANGED, Applied, Wait
from control.api.fields import NextHopIn, Paged
from control.api.operation import Answer, Asked, operation
from control.api.places import domain
from control.store import accounts, domains, names
from control.store.errors import Missing
from control.store.layers import Layer


class Domain(msgspec.Struct, frozen=True):
    """One served domain; `revision` and `hash` are those of its settings."""

    name: str
    account: str
    next_hops: list[NextHopIn]
    revision: int
    hash: str
    created_at: datetime


class Domains(msgspec.Struct, frozen=True):
    """A page of domains by name."""

    items: list[Domain]
    next: str | None


class NewDomain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A domain to serve. The operator may name its account (default: the first); others make domains of their own."""

    name: Annotated[
        str, Meta(min_length=1, max_length=300, description="The domain, e.g. example.org; IDN or A-label.")
    ]
    next_hops: Annotated[list[NextHopIn], Meta(min_length=1, max_length=domains.MOST_NEXT_HOPS)]
    account: Annotated[str, Meta(max_length=40, description="Id of the account that owns it (operator).")] = ""


class DomainPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a domain can be changed beside its settings; the list replaces the one before."""

    next_hops: Annotated[list[NextHopIn], Meta(min_length=1, max_length=domains.MOST_NEXT_HOPS)] | msgspec.UnsetType = (
        msgspec.UNSET
    )


class DomainMade(Applied, frozen=True):
    """A domain with the revision that made it."""

    name: str = ""
    account: str = ""
    next_hops: list[NextHopIn] = []


@operation("GET", "/domains", summary="The domains you may see, by name", answers={200: Domains}, query=Paged)
async def list_domains(asked: Asked) -> Answer:
    found = await domains.listing(asked.pool, asked.viewer, after=asked.query.cursor, limit=asked.query.limit + 1)
    page = found[: asked.query.limit]
    return Answer(Domains([shown(each) for each in page], page[-1].name if len(found) > len(page) else None))


@operation("POST", "/domains", summary="Serve a domain", answers={201: DomainMade}, query=Wait, body=NewDomain)
async def create_domain(asked: Asked) -> Answer:
    """With the operator's token no proof of ownership is asked; others publish the TXT record that a refusal names."""
    wanted: NewDomain = asked.body
    name, account = names.domain(wanted.name), await _account(asked)
    hops = domains.checked([hop.hop() for hop in wanted.next_hops])
    if not asked.viewer.is_operator:
        await ownership.require_proof(asked.services.settings, account, name)
    written = await domains.create(asked.pool, asked.viewer, account, name, hops)
    layer = Layer("domain", name, account)
    shown_hops = domains.shown(hops)
    made = await applied.answer(asked, layer, written, status=201, name=name, account=account, next_hops=shown_hops)
    return Answer(made.body, 201, {**made.headers, "Location": f"/api/v1/domains/{name}"})


@operation("GET", "/domains/{domain}", summary="One domain", answers={200: Domain})
async def get_domain(asked: Asked) -> Answer:
    found = await domains.get(asked.pool, asked.viewer, domain(asked))
    return Answer(shown(found), headers={"ETag": f'"{found.hash}"'})


@operation(
    "PATCH",
    "/domains/{domain}",
    summary="Deliver a domain's mail elsewhere",
    answers=CHANGED,
    query=Wait,
    body=DomainPatch,
)
async def change_domain(asked: Asked) -> Answer:
    name = domain(asked)
    found = await domains.get(asked.pool, asked.viewer, name)
    hops = found.next_hops if asked.body.next_hops is msgspec.UNSET else [hop.hop() for hop in asked.body.next_hops]
    written = await domains.set_next_hops(asked.pool, asked.viewer, name, hops)
    return await applied.answer(asked, Layer("domain", name, found.account_id), written)


@operation(
    "DELETE",
    "/domains/{domain}",
    summary="Serve a domain no longer",
    answers=CHANGED,
    query=Wait,
)
async def delete_domain(asked: Asked) -> Answer:
    """Its kept mail expires in its time. The answer's hash is empty: there is no content any more."""
    name = domain(asked)
    found = await domains.get(asked.pool, asked.viewer, name)
    written = await domains.delete(asked.pool, asked.viewer, name)
    return await applied.answer(asked, Layer("domain", name, found.account_id), written)


def shown(found: domains.Domain) -> Domain:
    """A stored domain as the API shows it."""
    hops = [NextHopIn(**hop) for hop in domains.shown(found.next_hops)]
    return Domain(found.name, found.account_id, hops, found.revision, found.hash, found.created_at)


async def _account(asked: Asked) -> str:
    """The account that is to own a new domain: the one named, one's own, or for the operator the first there is."""
    wanted: str = asked.body.account
    if wanted not in ("", asked.viewer.account_id) and not asked.viewer.is_operator:
        raise Missing(f"there is no account “{wanted}”")
    return wanted or asked.viewer.account_id or await accounts.first(asked.pool)
