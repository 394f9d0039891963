"""The first error of a pydantic validation in words that a user of the YAML file can act on."""

import difflib
import json
from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]
"""Where a value stands: keys and list positions from the top, as ``("steps", 1, "prompt")``."""

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of 'key: value' lines",
    "model_type": "a mapping of 'key: value' lines",
    "model_attributes_type": "a mapping of 'key: value' lines",
}


def describe(error: ValidationError, model: type[BaseModel], data: Any) -> tuple[Location, str]:
    """Location and message of the error to show: a misspelled key before what it left missing."""
    errors = error.errors(include_url=False)
    details = next((item for item in errors if item["type"] == "extra_forbidden"), errors[0])
    location = _without_tags(details, data)
    if details["type"] == "extra_forbidden":
        known = _known_keys(model, details["loc"][:-1])
        return location, f"unknown key{did_you_mean(str(location[-1]), known)}; known keys: " + (
            ", ".join(known) or "none"
        )
    if details["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _describe_tag(details, location)
    return location, _message(details)


def dotted(location: Iterable[str | int]) -> str:
    """``("steps", 1, "prompt")`` -> ``steps[1].prompt``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``, did you mean 'x'?`` when one of the known names is close, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean '{close[0]}'?" if close else ""


def kind(value: Any) -> str:
    """What a YAML value is, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str) and "://" in value:
        return "a URL"  # which may hold a password
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _message(details: ErrorDetails) -> str:
    code, given = details["type"], details["input"]
    if code == "missing":
        return "is missing"
    if code in _EXPECTED:
        quotes = code == "string_type" and isinstance(given, bool | int | float)
        hint = "; put it in quotes" if quotes else ""
        return f"should be {_EXPECTED[code]}, got {kind(given)}{hint}"
    if code == "literal_error":
        expected = details["ctx"]["expected"]
        choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
        return f"should be {expected}, got {kind(given)}{did_you_mean(str(given), choices)}"
    if code in ("value_error", "assertion_error"):
        return str(details["ctx"]["error"])
    message = details["msg"].replace("Input should", "should")
    return f"{message[:1].lower()}{message[1:]}, got {kind(given)}"


def _describe_tag(details: ErrorDetails, location: Location) -> tuple[Location, str]:
    """A section whose kind key (such as ``source``) is missing or unknown."""
    context = details["ctx"]
    discriminator = context["discriminator"].strip("'")
    location = (*location, discriminator)
    if details["type"] == "union_tag_not_found":
        return location, "is missing"
    known = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
    given = str(context["tag"])
    return location, f"unknown '{given}'{did_you_mean(given, known)}; known: {', '.join(known)}"


def _without_tags(details: ErrorDetails, data: Any) -> Location:
    """The location in the file: pydantic also names the chosen member of a union."""
    kept: list[str | int] = []
    for part in details["loc"]:
        if part == "[key]":  # the fault is in the key itself
            break
        found = isinstance(data, dict | list) and _child(data, part)
        if found:
            kept.append(part)
            data = found[0]
    if details["type"] == "missing":
        kept.append(details["loc"][-1])
    return tuple(kept)


def _child(data: dict[str, Any] | list[Any], part: str | int) -> tuple[Any] | None:
    if isinstance(data, dict):
        return (data[part],) if part in data else None
    return (data[part],) if isinstance(part, int) and part < len(data) else None


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at this location may have."""
    annotation: Any = model
    for part in location:
        annotation = _member(annotation, part)
    found = [item for item in _flat(annotation) if _is_model(item)]
    return [field.alias or name for item in found for name, field in item.model_fields.items()]


def _member(annotation: Any, part: str | int) -> Any:
    """The annotation of one part of a value; unions are searched, a tag chooses its member."""
    for item in _flat(annotation):
        if _is_model(item):
            if part in item.model_fields:
                return item.model_fields[part].annotation
            if any(part in get_args(field.annotation) for field in item.model_fields.values()):
                return item  # the part is the tag of this member of the union
        elif get_origin(item) is dict:
            return get_args(item)[1]
        elif get_origin(item) in (list, tuple) and isinstance(part, int):
            return get_args(item)[0]
    return None


def _flat(annotation: Any) -> list[Any]:
    """The members of a union, without Annotated wrappers."""
    if get_origin(annotation) is Annotated:
        return _flat(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [inner for member in get_args(annotation) for inner in _flat(member)]
    return [] if get_origin(annotation) is Literal else [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
