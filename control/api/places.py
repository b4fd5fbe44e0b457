"""The layers that have settings and lists, by their addresses."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from control.api.operation import Asked, For
from control.store import names
from control.store.errors import Invalid, Missing
from control.store.layers import Scope

Find = Callable[[Asked], Awaitable[tuple[Scope, str]]]


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of layer: where it lies in the API, its word in operation ids and texts, and how a request names one."""

    path: str
    word: str
    find: Find
    audience: For = "viewer"


def domain(asked: Asked) -> str:
    """The domain in the address, in its one spelling; what is no domain name is no domain of ours. Raises Missing."""
    try:
        return names.domain(asked.path["domain"])
    except Invalid as error:
        raise Missing(f"there is no domain “{asked.path['domain'][:80]}”") from error


async def _domain(asked: Asked) -> tuple[Scope, str]:
    return "domain", domain(asked)


async def _account(asked: Asked) -> tuple[Scope, str]:
    return "account", asked.path["account"]


async def _own_account(asked: Asked) -> tuple[Scope, str]:
    if asked.viewer.account_id is None:
        raise Missing("the operator has no account of its own; name one: /accounts/{account}/…")
    return "account", asked.viewer.account_id


async def _system(asked: Asked) -> tuple[Scope, str]:
    return "system", ""


PLACES = (
    Place("/domains/{domain}", "domain", _domain),
    Place("/account", "own_account", _own_account),
    Place("/accounts/{account}", "account", _account),
    Place("/system", "system", _system, "operator"),
)
