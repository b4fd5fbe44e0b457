"""Query parameters, bodies and answers that several operations share."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from syncd.layers import NextHop

PAGE = 100
LONGEST_PAGE = 1000
BIGGEST = 2**63 - 1

Limit = Annotated[int, Meta(ge=1, le=LONGEST_PAGE, description="Items on a page.")]
Cursor = Annotated[str, Meta(max_length=1000, description="`next` of the page before.")]
Revision = Annotated[int, Meta(ge=1, le=BIGGEST, description="A settings revision.")]


class Paged(msgspec.Struct, frozen=True):
    """A page of a listing."""

    limit: Limit = PAGE
    cursor: Cursor = ""


class NextHopIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server that takes a domain's mail; lower `preference` is tried first."""

    host: Annotated[str, Meta(min_length=1, max_length=253, description="Host name or IP address.")]
    port: Annotated[int, Meta(ge=1, le=65535)] = 25
    tls: Annotated[
        Literal["opportunistic", "required", "verified"], Meta(description="Whether TLS must be spoken with it.")
    ] = "opportunistic"
    preference: Annotated[int, Meta(ge=0, le=65535)] = 10

    def hop(self) -> NextHop:
        """As it is stored."""
        return NextHop(self.host, self.port, self.tls, self.preference)


class Changed(msgspec.Struct, frozen=True):
    """A path at which two documents differ; null where there was or is nothing."""

    path: str
    before: Any
    after: Any
