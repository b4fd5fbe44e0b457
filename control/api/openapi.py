"""The API's description in OpenAPI 3.1, made from the declared operations; nothing in it is written twice."""

import re
from functools import cache
from typing import Any

import msgspec
from quart import Response

from control.api import problems, schemas
from control.api.applied import NodeState
from control.api.operation import OPERATIONS, Operation

PREFIX = "/api/v1"
_PARAMETER = re.compile(r"\{(\w+)\}")
Schema = dict[str, Any]


async def document() -> Response:
    """`GET /api/v1/openapi.json`."""
    return Response(encoded(), content_type="application/json")


@cache
def encoded() -> bytes:
    """The description as JSON."""
    return msgspec.json.encode(describe())


def describe() -> Schema:
    """The description."""
    types = _types()
    found, components = schemas.of_types(*types)
    by_type = dict(zip(types, found, strict=True))
    for name, make in (schemas.DOCUMENT, schemas.PATCH):
        components[name] = make()
    paths: dict[str, Schema] = {}
    for each in OPERATIONS:
        paths.setdefault(PREFIX + each.path, {})[each.method.lower()] = _operation(each, by_type)
    bearer = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A token of an account, or the operator's."}
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "mxfleet", "version": "1", "description": "Errors are problem details (RFC 9457)."},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": bearer},
    }


def _types() -> tuple[Any, ...]:
    """Every type whose schema is needed, each once."""
    found: list[Any] = [problems.Problem, NodeState]
    for each in OPERATIONS:
        found += [each.query, *([each.body] if each.body is not None and each.body_schema is None else [])]
        found += [kind for kind in each.answers.values() if isinstance(kind, type)]
    return tuple({id(kind): kind for kind in found}.values())


def _operation(each: Operation, by_type: dict[Any, Schema]) -> Schema:
    made: Schema = {
        "operationId": each.name,
        "summary": each.summary,
        "tags": [each.path.split("/")[1]],
        "parameters": _path_parameters(each) + _query_parameters(each, by_type) + _header_parameters(each),
        "responses": _responses(each, by_type),
    }
    if each.description:
        made["description"] = " ".join(each.description.split())
    if each.audience == "anybody":
        made["security"] = []
    if each.audience == "operator":
        made["description"] = f"{made.get('description', '')} With the operator's token alone.".strip()
    if each.body is not None:
        made["requestBody"] = _body(each, by_type)
    return made


def _path_parameters(each: Operation) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(each.path)
    ]


def _query_parameters(each: Operation, by_type: dict[Any, Schema]) -> list[Schema]:
    (_,), components = schemas.of_types(each.query)
    schema = components[each.query.__name__]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": part}
        for name, part in schema["properties"].items()
    ]


def _header_parameters(each: Operation) -> list[Schema]:
    if each.method != "PATCH" or each.body_schema is None:
        return []
    text = "A revision, or a hash as in ETag: 409 with the newer diff when the settings have changed since."
    return [{"name": "If-Match", "in": "header", "required": False, "schema": {"type": "string"}, "description": text}]


def _body(each: Operation, by_type: dict[Any, Schema]) -> Schema:
    schema = {"$ref": schemas.COMPONENTS.format(name=each.body_schema[0])} if each.body_schema else by_type[each.body]
    media_types = ["application/json", *(["application/merge-patch+json"] if each.body_schema else [])]
    return {"required": each.body_required, "content": {media_type: {"schema": schema} for media_type in media_types}}


def _responses(each: Operation, by_type: dict[Any, Schema]) -> Schema:
    problem = {"content": {problems.MEDIA_TYPE: {"schema": by_type[problems.Problem]}}}
    made: Schema = {
        "4XX": {"description": "The request cannot be done as it is.", **problem},
        "5XX": {"description": "Our side cannot do it now.", **problem},
    }
    for status, kind in each.answers.items():
        made[str(status)] = {"description": _STATUS[status], **_content(kind, by_type)}
    return made


def _content(kind: Any, by_type: dict[Any, Schema]) -> Schema:
    if kind is None:
        return {}
    if isinstance(kind, str):
        return {"content": {kind: {"schema": {"type": "string", "contentMediaType": kind}}}}
    if isinstance(kind, tuple):
        return {"content": {"application/json": {"schema": {"$ref": schemas.COMPONENTS.format(name=kind[0])}}}}
    return {"content": {"application/json": {"schema": by_type[kind]}}}


_STATUS = {
    200: "Done.",
    201: "Made.",
    202: "Taken; nodes or a job are awaited.",
    204: "Done; there is nothing to tell.",
}
