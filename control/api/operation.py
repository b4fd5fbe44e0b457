"""An API operation, declared once: route, authorisation, validation and OpenAPI all read the declaration.

    @operation("GET", "/domains/{domain}", answers={200: Domain}, summary="One domain")
    async def get_domain(asked: Asked) -> Answer: ...

`query` and `body` are msgspec structs; what comes is converted into them, and what does not fit is a 400 (no JSON) or
a 422 with the field and the reason. A handler returns an `Answer` with a struct, or bytes of a declared media type.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import msgspec

from control.api.problems import Refused, refused
from control.app import Services
from control.auth import Viewer
from control.store.documents import has_nul

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
For = Literal["anybody", "viewer", "operator"]


class Nothing(msgspec.Struct, frozen=True):
    """No query parameters."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, read and checked: `path` by parameter, `query` and `body` as declared, `if_match` unquoted."""

    services: Services
    viewer: Viewer
    path: Mapping[str, str]
    query: Any = None
    body: Any = None
    if_match: str | None = None

    @property
    def pool(self) -> Any:
        """The PostgreSQL pool."""
        return self.services.pool


@dataclass(frozen=True, slots=True)
class Answer:
    """A handler's answer; `body` a struct or a JSON value, or bytes (or an asynchronous iterator of
    them) where the operation declares a media type."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Schema = tuple[str, Callable[[], dict[str, Any]]]
"""Name of a component of OpenAPI, and what makes its JSON schema."""
Handler = Callable[[Asked], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One declared operation. `answers` maps a status to a struct type, to a media type as text, or to None."""

    method: Method
    path: str
    summary: str
    handler: Handler
    answers: Mapping[int, Any]
    query: type[msgspec.Struct] = Nothing
    body: Any = None
    body_schema: Schema | None = None
    """Name and maker of the body's JSON schema, where its type says less than we know."""
    audience: For = "viewer"
    name: str = ""
    """The operation's id in OpenAPI, and its endpoint."""
    description: str = ""

    @property
    def body_required(self) -> bool:
        """Whether an empty body will not do."""
        return self.body is not None and not _takes_nothing(self.body)


OPERATIONS: list[Operation] = []
"""Every declared operation, in the order of the API's description."""


def operation(
    method: Method,
    path: str,
    *,
    summary: str,
    answers: Mapping[int, Any],
    query: type[msgspec.Struct] = Nothing,
    body: Any = None,
    body_schema: Schema | None = None,
    audience: For = "viewer",
    name: str = "",
) -> Callable[[Handler], Handler]:
    """Declare the handler below as an operation; its docstring is the description, its name (or `name`) the id."""

    def declare(handler: Handler) -> Handler:
        inner = handler.func if isinstance(handler, partial) else handler
        OPERATIONS.append(
            Operation(
                method,
                path,
                summary,
                handler,
                answers,
                query,
                body,
                body_schema,
                audience,
                name or inner.__name__,
                inner.__doc__ or "",
            )
        )
        return handler

    return declare


def read_query(declared: Operation, given: Mapping[str, str]) -> Any:
    """The query parameters as the declared struct; unknown ones are ignored. Raises Refused (422)."""
    known = set(declared.query.__struct_encode_fields__)
    values = {name: value for name, value in given.items() if name in known}
    for name, value in values.items():
        if "\x00" in value:
            raise refused(422, f"{name}: holds a NUL character", field=name, reason="holds a NUL character")
    try:
        return msgspec.convert(values, declared.query, strict=False)
    except msgspec.ValidationError as error:
        raise _unfit(error) from error


def read_body(declared: Operation, data: bytes) -> Any:
    """The body as declared. Raises Refused: 400 for what is no JSON, 422 for what is JSON and does not fit."""
    if not data and not declared.body_required:
        data = b"{}"
    try:
        value = msgspec.json.decode(data)
    except msgspec.ValidationError as error:
        raise _unfit(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refused(400, f"the body is no JSON (RFC 8259): {_plain(error)}") from error
    if has_nul(value):
        raise refused(422, "a text holds a NUL character (U+0000)", reason="holds a NUL character (U+0000)")
    try:
        return msgspec.convert(value, declared.body)
    except msgspec.ValidationError as error:
        raise _unfit(error) from error


def _unfit(error: msgspec.ValidationError) -> Refused:
    reason, _, path = str(error).partition(" - at `$")
    name = path.rstrip("`").lstrip(".")
    return refused(422, f"{name}: {reason}" if name else reason, field=name, reason=reason)


def _plain(error: Exception) -> str:
    return "nests too deep" if isinstance(error, RecursionError) else str(error)


def _takes_nothing(body: Any) -> bool:
    """Whether `{}` is a value of the type and an empty body therefore means it."""
    return (
        isinstance(body, type)
        and issubclass(body, msgspec.Struct)
        and not any(each.required for each in msgspec.structs.fields(body))
    )
