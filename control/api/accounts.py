"""`/accounts`: customers and their tokens, for the operator."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from control.api.fields import Paged
from control.api.operation import Answer, Asked, operation
from control.store import accounts


class Account(msgspec.Struct, frozen=True):
    """One customer."""

    id: str
    name: str
    created_at: datetime


class Accounts(msgspec.Struct, frozen=True):
    """A page of accounts."""

    items: list[Account]
    next: str | None


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to call it."""

    name: Annotated[str, Meta(min_length=1, max_length=accounts.LONGEST_NAME)]


class Token(msgspec.Struct, frozen=True):
    """A bearer token; it is shown this once."""

    token: str


@operation("GET", "/accounts", summary="The accounts you may see", answers={200: Accounts}, query=Paged)
async def list_accounts(asked: Asked) -> Answer:
    """Your own; the operator sees all."""
    limit = asked.query.limit
    found = await accounts.listing(asked.pool, asked.viewer, after=asked.query.cursor, limit=limit + 1)
    page = [Account(each.id, each.name, each.created_at) for each in found[:limit]]
    return Answer(Accounts(page, page[-1].id if len(found) > limit else None))


@operation("POST", "/accounts", summary="Make an account", answers={201: Account}, body=Named, audience="operator")
async def create_account(asked: Asked) -> Answer:
    """It begins without domains, people and tokens."""
    made = await accounts.create(asked.pool, asked.viewer, asked.body.name)
    return Answer(Account(made.id, made.name, made.created_at), 201)


@operation("POST", "/accounts/{account}/tokens", summary="Make a bearer token", answers={201: Token}, body=Named)
async def create_token(asked: Asked) -> Answer:
    """It sees all of the account, and nothing else."""
    return Answer(
        Token(await accounts.add_token(asked.pool, asked.viewer, asked.path["account"], asked.body.name)), 201
    )
