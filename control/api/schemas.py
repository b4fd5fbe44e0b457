"""JSON schema of settings documents, from the filters' declarations."""

from collections.abc import Mapping
from typing import Any

import msgspec

from mx.filters import DECLARED

COMPONENTS = "#/components/schemas/{name}"


def of_types(*types: Any) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """The schemas of some types, and the components that they refer to."""
    return msgspec.json.schema_components(types, ref_template=COMPONENTS)


def _sections() -> Mapping[str, dict[str, Any]]:
    """Section → its fields' schemas, components resolved in place so that each stands alone."""
    found: dict[str, dict[str, Any]] = {}
    for declared in DECLARED:
        (reference,), components = of_types(declared.settings)
        schema = _inlined(reference, components)
        found[declared.name] = {"description": declared.question, "properties": schema["properties"]}
    return found


def _inlined(schema: Any, components: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(each, components) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(components[schema["$ref"].rpartition("/")[2]], components)
    return {name: _inlined(each, components) for name, each in schema.items() if name != "title"}


def _document() -> dict[str, Any]:
    sections = {
        name: {"type": "object", "additionalProperties": False, **section} for name, section in _sections().items()
    }
    beside = {
        "locks": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Paths that weaker layers cannot change.",
        },
        "revision": {"type": "integer"},
        "hash": {"type": "string"},
        "applied": {"type": "boolean"},
        "nodes": {"type": "object", "additionalProperties": {"$ref": COMPONENTS.format(name="NodeState")}},
    }
    return {
        "type": "object",
        "properties": {**sections, **beside},
        "required": ["revision", "hash"],
        "additionalProperties": False,
    }


def _patch() -> dict[str, Any]:
    def nullable(schema: dict[str, Any]) -> dict[str, Any]:
        return {"anyOf": [{name: each for name, each in schema.items() if name != "default"}, {"type": "null"}]}

    sections = {
        name: nullable(
            {
                "type": "object",
                "additionalProperties": False,
                "description": section["description"],
                "properties": {field: nullable(schema) for field, schema in section["properties"].items()},
            }
        )
        for name, section in _sections().items()
    }
    locks = nullable({"type": "array", "items": {"type": "string"}})
    return {"type": "object", "properties": {**sections, "locks": locks}, "additionalProperties": False}


DOCUMENT = ("SettingsDocument", _document)
"""What a layer sets, with its revision and hash: a component's name, and what makes its schema."""
PATCH = ("SettingsPatch", _patch)
"""A merge patch of it."""
