"""Questions about a JSON schema (draft 2020-12) that are asked when a workflow is loaded."""

from collections.abc import Iterator, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int, float),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
_OPEN_ENDED = frozenset(
    {"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties"}
)


def schema_fault(schema: dict[str, Any]) -> str | None:
    """Why this is no usable schema, or None. References must stay inside the schema."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = ".".join(str(part) for part in error.absolute_path)
        message = " ".join(error.message.split())
        return (
            f"is no JSON schema: {place}: {message}" if place else f"is no JSON schema: {message}"
        )
    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for reference in _references(schema):
        if not reference.startswith("#"):
            return f"$ref '{reference}' leaves the schema; copy what it names into $defs"
        try:
            resolver.lookup(reference)
        except Unresolvable:
            return f"$ref '{reference}' names nothing in the schema"
    return None


def path_fault(schema: dict[str, Any], path: Sequence[str]) -> str | None:
    """Why no valid value can have something at this path, or None where it can or may."""
    node: Any = schema
    for depth, part in enumerate(path):
        if not isinstance(node, dict) or not _OPEN_ENDED.isdisjoint(node):
            return None
        where = ".".join(path[:depth]) or "the answer"
        if node.get("type") == "array" and part.isdecimal():
            node = node.get("items", {})
        elif node.get("type", "object") != "object":
            return f"{where} is {node['type']} in the json_schema, so it has no '{part}'"
        elif part in node.get("properties", {}):
            node = node["properties"][part]
        elif "properties" in node and not node.get("additionalProperties"):
            known = ", ".join(node["properties"])
            return f"'{part}' is not among the properties of {where} in the json_schema: {known}"
        else:
            return None
    return None


def type_fault(schema: dict[str, Any], path: Sequence[str], value: Any) -> str | None:
    """Why the value at this path can never have the type of ``value``, or None."""
    node: Any = schema
    for part in path:
        if not isinstance(node, dict) or not _OPEN_ENDED.isdisjoint(node):
            return None
        array = node.get("type") == "array"
        node = node.get("items") if array else node.get("properties", {}).get(part)
    if not isinstance(node, dict) or not _OPEN_ENDED.isdisjoint(node):
        return None
    declared = node.get("type")
    types = [declared] if isinstance(declared, str) else declared
    if not types or any(_has_type(value, name) for name in types):
        return None
    return f"is {' or '.join(types)} in the json_schema"


def _has_type(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES[name])


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            elif key not in ("const", "enum", "default", "examples"):
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)
