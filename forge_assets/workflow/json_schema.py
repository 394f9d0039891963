"""JSON schemas (draft 2020-12) of output contracts: compiled, and asked about before any output."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError, ValidationErrorKind

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
_MESSAGE_CHARS = 300


def compile_schema(schema: dict[str, Any]) -> Draft202012Validator:
    """A validator that fetches nothing and takes formats as notes. ValueError with the fault."""
    try:
        return Draft202012Validator(
            schema,
            offline=True,
            validate_formats=False,
            # The engine that takes linear time on any text: no model's answer can make it hang.
            pattern_options=RegexOptions(),
        )
    except ValidationError as error:
        if isinstance(error.kind, ValidationErrorKind.Referencing):
            raise ValueError(
                "has a $ref that names nothing in the schema; copy what it means into $defs: "
                + error.message
            ) from None
        raise ValueError(f"is no JSON schema: {_sentence(error)}") from None
    except ValueError as error:
        raise ValueError(f"is no JSON schema: {error}") from None


def mismatch(validator: Draft202012Validator, value: Any, many_reasons: bool = False) -> str | None:
    """What the schema does not allow in this value, or None. ValueError: it cannot be checked.

    ``many_reasons``: say only that it does not fit. Where alternatives hold alternatives, why each
    of them was not taken doubles with every level of the value: gigabytes after fifteen.
    """
    if validator.is_valid(value):
        return None
    if many_reasons:
        return "does not fit the json_schema"
    error = _most_telling(validator.iter_errors(value))
    return _sentence(error) if error is not None else None


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


def _most_telling(errors: Iterable[ValidationError]) -> ValidationError | None:
    """The outermost error. Of alternatives, the one that got deeper into the value than the rest."""
    best = min(errors, key=lambda error: (_depth(error), _alternatives(error) != []), default=None)
    if best is None:
        return None
    inner = max(_alternatives(best), key=_depth, default=best)
    return _most_telling([inner]) if _depth(inner) > _depth(best) else best


def _depth(error: ValidationError) -> int:
    return len(error.instance_path)


def _alternatives(error: ValidationError) -> list[ValidationError]:
    """Why each branch of an anyOf or oneOf was not taken; empty for another keyword."""
    if isinstance(error.kind, ValidationErrorKind.AnyOf | ValidationErrorKind.OneOfNotValid):
        return list(chain.from_iterable(error.kind.context))
    return []


def _sentence(error: ValidationError) -> str:
    """One line. A long message begins with the value and ends with what is wrong: both are kept."""
    message = " ".join(error.message.split())
    if len(message) > _MESSAGE_CHARS:
        half = _MESSAGE_CHARS // 2
        message = f"{message[:half]} ... {message[-half:]}"
    place = ".".join(str(part) for part in error.instance_path)
    return f"{place}: {message}" if place else message
