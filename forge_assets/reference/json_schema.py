"""The JSON schema (draft 2020-12) of a YAML file, from the model that loads it.

It tells editors what they can check: keys, types, choices, ranges, forms of names. It never refuses
what the loader accepts; what is left (paths, cycles, templates) the loader says.
"""

import inspect
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

_ANYTHING = "JsonValue"
"""Pydantic's name for a definition that allows all there is."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Generator(GenerateJsonSchema):
    """Without pydantic's titles, and without the keyword of OpenAPI for tagged unions."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        found = super().tagged_union_schema(schema)
        return {key: value for key, value in found.items() if key != "discriminator"}


def file_schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    """``title``: what editors call the file."""
    schema: dict[str, Any] = _plainer(model.model_json_schema(schema_generator=_Generator))
    schema["$defs"].pop(_ANYTHING, None)
    return {"$schema": DIALECT, "title": title} | schema


def one_line(docstring: str) -> str:
    """The description as Markdown."""
    return " ".join(inspect.cleandoc(docstring).split()).replace("``", "`")


def _plainer(schema: Any) -> Any:
    """Without what says nothing to whoever writes the file, in numbers that every editor reads."""
    if isinstance(schema, list):
        return [_plainer(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # A key of the file may be called as a keyword is: those of "properties" are names.
    made = {
        key: {name: _plainer(value) for name, value in inner.items()}
        if key in ("properties", "patternProperties", "$defs")
        else _short(inner)
        if key == "default"
        else _plainer(inner)
        for key, inner in schema.items()
    }
    return _keywords(made)


def _keywords(schema: dict[str, Any]) -> dict[str, Any]:
    schema.pop("title", None)
    if schema.get("$ref") == f"#/$defs/{_ANYTHING}":
        del schema["$ref"]
    if schema.get("format") == "path":
        del schema["format"]
    if "description" in schema:
        schema["description"] = one_line(schema["description"])
    # Nothing is no default to show, and a section's own keys have theirs.
    if "default" in schema and (schema["default"] is None or "$ref" in schema):
        del schema["default"]
    if "patternProperties" in schema:
        schema.setdefault("additionalProperties", False)
    if schema.get("type") == "integer":
        # Editors count in doubles, in which 2^63 - 1 is 2^63 and would not be below it.
        if "exclusiveMinimum" in schema:
            schema["minimum"] = schema.pop("exclusiveMinimum") + 1
        if "exclusiveMaximum" in schema:
            schema["maximum"] = schema.pop("exclusiveMaximum") - 1
    return {
        key: _whole(value) if key in ("minimum", "maximum", "exclusiveMinimum") else value
        for key, value in schema.items()
    }


def _short(default: Any) -> Any:
    """A default as it is written in the file: without the keys that are nothing."""
    if isinstance(default, list):
        return [_short(item) for item in default]
    if isinstance(default, dict):
        return {key: _short(value) for key, value in default.items() if value is not None}
    return _whole(default)


def _whole(value: Any) -> Any:
    """2592000.0 -> 2592000"""
    return int(value) if isinstance(value, float) and value.is_integer() else value
